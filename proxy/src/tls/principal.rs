//! From a certificate's subject to a user's name: Kafka's ssl.principal.mapping.rules.

use regex::Regex;
use thiserror::Error;

/// Why a rule cannot be used.
#[derive(Debug, Error)]
#[error("{0}")]
pub struct RuleError(String);

/// Rules in order; the first that matches holds.
#[derive(Clone, Debug, Default)]
pub struct PrincipalRules(Vec<Rule>);

#[derive(Clone, Debug)]
enum Rule {
    Default,
    Mapping { pattern: Regex, replacement: String, case: Case },
}

#[derive(Clone, Copy, Debug)]
enum Case {
    Kept,
    Lower,
    Upper,
}

impl PrincipalRules {
    /// Reads `DEFAULT` and `RULE:pattern/replacement/[LU]`; the error has the rule's place in the list.
    pub fn parse(rules: &[String]) -> Result<Self, (usize, RuleError)> {
        let parse = |(at, rule): (usize, &String)| Rule::parse(rule.trim()).map_err(|error| (at, error));
        rules.iter().enumerate().map(parse).collect::<Result<_, _>>().map(PrincipalRules)
    }

    /// The name; nothing where rules exist and none matches.
    pub(crate) fn apply(&self, subject: &str) -> Option<String> {
        match self.0.is_empty() {
            true => Some(subject.to_owned()),
            false => self.0.iter().find_map(|rule| rule.apply(subject)),
        }
    }
}

impl Rule {
    fn parse(text: &str) -> Result<Self, RuleError> {
        if text == "DEFAULT" {
            return Ok(Rule::Default);
        }
        let expected = || RuleError(format!("\"{text}\" is neither DEFAULT nor RULE:pattern/replacement/[LU]"));
        let parts = split(text.strip_prefix("RULE:").ok_or_else(expected)?);
        let [pattern, replacement, case] = parts.as_slice() else { return Err(expected()) };
        let case = match case.as_str() {
            "" => Case::Kept,
            "L" => Case::Lower,
            "U" => Case::Upper,
            _ => return Err(expected()),
        };
        // The whole subject must match, as in Kafka.
        let pattern = Regex::new(&format!("^(?:{pattern})$")).map_err(|error| RuleError(error.to_string()))?;
        Ok(Rule::Mapping { pattern, replacement: replacement.clone(), case })
    }

    fn apply(&self, subject: &str) -> Option<String> {
        let Rule::Mapping { pattern, replacement, case } = self else { return Some(subject.to_owned()) };
        let found = pattern.captures(subject)?;
        let name = expand(replacement, &found);
        Some(match case {
            Case::Kept => name,
            Case::Lower => name.to_lowercase(),
            Case::Upper => name.to_uppercase(),
        })
    }
}

/// Cuts at slashes that no backslash precedes.
fn split(text: &str) -> Vec<String> {
    let (mut parts, mut escaped) = (vec![String::new()], false);
    for c in text.chars() {
        let last = parts.last_mut().expect("never empty");
        match c {
            '/' if !escaped => parts.push(String::new()),
            // `\/` is Java's and nobody else's way to write a slash.
            '/' => {
                last.pop();
                last.push('/');
            }
            c => last.push(c),
        }
        escaped = c == '\\' && !escaped;
    }
    parts
}

/// `$1` is the first group, as in Java: the longest number that is a group; what is none stays as it is.
fn expand(replacement: &str, found: &regex::Captures<'_>) -> String {
    let (mut out, mut rest) = (String::new(), replacement);
    while let Some(c) = rest.chars().next() {
        rest = &rest[c.len_utf8()..];
        let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let group = (1..=digits.min(3)).rev().find_map(|length| {
            let number = rest[..length].parse::<usize>().ok().filter(|number| *number < found.len())?;
            Some((length, number))
        });
        match (c, group) {
            ('$', Some((length, number))) => {
                out.push_str(found.get(number).map_or("", |group| group.as_str()));
                rest = &rest[length..];
            }
            ('\\', _) if !rest.is_empty() => {
                let next = rest.chars().next().expect("not empty");
                out.push(next);
                rest = &rest[next.len_utf8()..];
            }
            _ => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(rules: &[&str]) -> Result<PrincipalRules, (usize, RuleError)> {
        PrincipalRules::parse(&rules.iter().map(|rule| rule.to_string()).collect::<Vec<_>>())
    }

    #[test]
    fn rules_do_what_kafkas_do() {
        // The examples of Kafka's documentation and of its SslPrincipalMapperTest.
        let kafka = &[
            "RULE:^CN=(.*?),OU=ServiceUsers.*$/$1/",
            "RULE:^CN=(.*?),OU=(.*?),O=(.*?),L=(.*?),ST=(.*?),C=(.*?)$/$1@$2/L",
            "RULE:^.*[Cc][Nn]=([a-zA-Z0-9.]*).*$/$1/U",
            "DEFAULT",
        ];
        let cases: &[(&[&str], &str, Option<&str>)] = &[
            (&[], "CN=a", Some("CN=a")),
            (kafka, "CN=Duke,OU=ServiceUsers,O=Org,C=US", Some("Duke")),
            (kafka, "CN=Duke,OU=SME,O=mycp,L=Fulton,ST=MD,C=US", Some("duke@sme")),
            (kafka, "cn=duke,ou=JavaSoft,o=Sun Microsystems", Some("DUKE")),
            (kafka, "OU=JavaSoft,O=Sun Microsystems,C=US", Some("OU=JavaSoft,O=Sun Microsystems,C=US")),
            (&["RULE:^CN=([^,]+).*$/$1/"], "O=x", None),
            (&["RULE:CN=(.)/$12-$5/"], "CN=a", Some("a2-$5")),
            (&["RULE:CN=a\\/(.)/x\\/$1/"], "CN=a/b", Some("x/b")),
            (&["RULE:CN=a/b/"], "CN=ab", None),
        ];
        for (texts, subject, expected) in cases {
            let name = rules(texts).expect("valid").apply(subject);
            assert_eq!(name.as_deref(), *expected, "{texts:?} {subject}");
        }
    }

    #[test]
    fn what_is_no_rule_is_refused_with_its_place() {
        for bad in ["default", "RULE:a", "RULE:a/b", "RULE:a/b/X", "RULE:(/b/", "RULE:a/b/L/"] {
            let (at, _) = rules(&["DEFAULT", bad]).expect_err(bad);
            assert_eq!(at, 1, "{bad}");
        }
    }
}
