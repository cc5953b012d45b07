package chart

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

const usersFile = "admin = \"admin-secret\"\nalice = \"alice-secret\"\n"

const token = "0123456789abcdef0123"

const tokensFile = token + " = \"User:admin\"\n"

// secret is the content of a Secret's key, told by the name that the value files give it.
func secret(t *testing.T, path string) []byte {
	t.Helper()
	certificates := makeCertificates()
	switch name := filepath.Base(path); {
	case strings.HasSuffix(filepath.Dir(path), "/users"):
		return []byte(usersFile)
	case strings.HasSuffix(filepath.Dir(path), "/krocket/http"):
		return []byte(tokensFile)
	case name == "jwks.json":
		return keySet()
	case strings.HasSuffix(name, ".crl"):
		return certificates.revoked()
	case name == "ca.crt":
		return certificates.ca
	case name == "tls.crt" || name == "server.pem":
		return certificates.server
	case name == "tls.key" || name == "server-key.pem":
		return certificates.serverKey
	}
	t.Fatalf("nobody knows what belongs into %s", path)
	return nil
}

// keySet is what an identity provider publishes: one key of its own.
func keySet() []byte {
	public := key().PublicKey
	part := func(number *big.Int) string {
		return base64.RawURLEncoding.EncodeToString(number.FillBytes(make([]byte, 32)))
	}
	return fmt.Appendf(nil, `{"keys": [{"kty": "EC", "crv": "P-256", "kid": "one", "x": %q, "y": %q}]}`, part(public.X), part(public.Y))
}

type certificates struct {
	ca, server, serverKey, client, clientKey []byte

	revoked func(...*big.Int) []byte // a list of these serial numbers
	issue   func(name string) []byte // another certificate of the server's key
	serial  *big.Int                 // the client's
}

var makeCertificates = sync.OnceValue(func() certificates {
	caKey, ca := key(), template("krocket test CA")
	ca.IsCA, ca.BasicConstraintsValid, ca.KeyUsage = true, true, x509.KeyUsageCertSign|x509.KeyUsageCRLSign
	caDer := sign(ca, ca, caKey, caKey)
	authority, err := x509.ParseCertificate(caDer)
	must(err)
	serverKey := key()
	issue := func(name string) []byte {
		server := template(name)
		server.IPAddresses, server.DNSNames = []net.IP{net.IPv4(127, 0, 0, 1)}, []string{"localhost", serviceHost, podHost}
		server.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
		return pemOf("CERTIFICATE", sign(server, ca, serverKey, caKey))
	}
	client, clientKey := template("admin"), key()
	client.Subject.Organization = []string{"example"}
	client.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	return certificates{
		ca: pemOf("CERTIFICATE", caDer), server: issue("krocket"), serverKey: pemOfKey(serverKey),
		client: pemOf("CERTIFICATE", sign(client, ca, clientKey, caKey)), clientKey: pemOfKey(clientKey),
		issue: issue, serial: client.SerialNumber,
		revoked: func(serials ...*big.Int) []byte { return revocations(authority, caKey, serials) },
	}
})

// What the certificate of krocket must have as its names.
const (
	serviceHost = "krocket.messaging.svc.cluster.local"
	podHost     = "krocket-0.krocket-headless.messaging.svc.cluster.local"
)

func revocations(authority *x509.Certificate, key *ecdsa.PrivateKey, serials []*big.Int) []byte {
	list := &x509.RevocationList{Number: big.NewInt(int64(len(serials))), ThisUpdate: time.Now(), NextUpdate: time.Now().Add(time.Hour)}
	for _, serial := range serials {
		list.RevokedCertificateEntries = append(list.RevokedCertificateEntries,
			x509.RevocationListEntry{SerialNumber: serial, RevocationTime: time.Now()})
	}
	der, err := x509.CreateRevocationList(rand.Reader, list, authority, key)
	must(err)
	return pemOf("X509 CRL", der)
}

func template(name string) *x509.Certificate {
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	must(err)
	return &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageDigitalSignature,
	}
}

func key() *ecdsa.PrivateKey {
	made, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(err)
	return made
}

func sign(certificate, by *x509.Certificate, its, signer *ecdsa.PrivateKey) []byte {
	der, err := x509.CreateCertificate(rand.Reader, certificate, by, &its.PublicKey, signer)
	must(err)
	return der
}

func pemOfKey(key *ecdsa.PrivateKey) []byte {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	must(err)
	return pemOf("PRIVATE KEY", der)
}

func pemOf(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}
