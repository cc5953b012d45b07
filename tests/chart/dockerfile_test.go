package chart

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const top = "../.."

var (
	members  = regexp.MustCompile(`(?m)^members = \[([^\]]*)\]`)
	includes = regexp.MustCompile(`include_(?:str|bytes)!\("([^"]+)"\)`)
)

// TestContext: .dockerignore lets through what cargo needs, also where there is no buildah to try it.
func TestContext(t *testing.T) {
	read := func(name string) string {
		text, err := os.ReadFile(filepath.Join(top, name))
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	lines := strings.Split(read(".dockerignore"), "\n")
	allowed := func(path string) bool {
		first, _, _ := strings.Cut(path, "/")
		if first == "tests" {
			return strings.HasSuffix(path, ".rs") && strings.Count(path, "/") <= 2
		}
		return slices.Contains(lines, "!"+first) || slices.Contains(lines, "!"+path)
	}

	found := members.FindStringSubmatch(read("Cargo.toml"))
	if found == nil {
		t.Fatal("Cargo.toml has no members")
	}
	for _, member := range strings.Split(found[1], ",") {
		if member = strings.Trim(member, "\" \n"); member != "" && !allowed(member+"/Cargo.toml") {
			t.Errorf(".dockerignore leaves out the workspace's member %s", member)
		}
	}
	for _, file := range []string{"Cargo.toml", "Cargo.lock", "src/main.rs", "scripts/setup"} {
		if !allowed(file) {
			t.Errorf(".dockerignore leaves out %s", file)
		}
	}
	for _, folder := range lines {
		folder = strings.TrimPrefix(folder, "!")
		if info, err := os.Stat(filepath.Join(top, folder)); err != nil || !info.IsDir() {
			continue
		}
		err := filepath.WalkDir(filepath.Join(top, folder), func(path string, entry os.DirEntry, err error) error {
			if err != nil || entry.IsDir() || filepath.Ext(path) != ".rs" {
				return err
			}
			text, err := os.ReadFile(path)
			for _, include := range includes.FindAllStringSubmatch(string(text), -1) {
				target, _ := filepath.Rel(top, filepath.Join(filepath.Dir(path), include[1]))
				if !allowed(target) {
					t.Errorf("%s includes %s, which .dockerignore leaves out", path, target)
				}
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}

	copied := 0
	for _, line := range strings.Split(read("Dockerfile"), "\n") {
		words := strings.Fields(line)
		if len(words) < 3 || words[0] != "COPY" || strings.HasPrefix(words[1], "--from=") {
			continue
		}
		for _, source := range words[1 : len(words)-1] {
			copied++
			if _, err := os.Stat(filepath.Join(top, source)); err != nil || source != "." && !allowed(source) {
				t.Errorf("the Dockerfile copies %s, which is not in the context: %v", source, err)
			}
		}
	}
	if copied == 0 {
		t.Error("the Dockerfile copies nothing")
	}
}

// TestVersions: the image is built with a Rust that is new enough, and the chart names the version that it has.
func TestVersions(t *testing.T) {
	find := func(name, pattern string) string {
		text, err := os.ReadFile(filepath.Join(top, name))
		if err != nil {
			t.Fatal(err)
		}
		found := regexp.MustCompile(pattern).FindStringSubmatch(string(text))
		if found == nil {
			t.Fatalf("%s has no %s", name, pattern)
		}
		return found[1]
	}
	// Both are 1.x with two digits.
	if wanted, has := find("Cargo.toml", `(?m)^rust-version = "([0-9.]+)"`), find("Dockerfile", `FROM rust:([0-9.]+)-`); has < wanted {
		t.Errorf("the Dockerfile has Rust %s, the workspace needs %s", has, wanted)
	}
	version := find("Cargo.toml", `(?m)^version = "([0-9.]+)"`)
	if app := find("charts/krocket/Chart.yaml", `(?m)^appVersion: "([0-9.]+)"`); app != version {
		t.Errorf("the chart's appVersion is %s, krocket's version %s", app, version)
	}
}
