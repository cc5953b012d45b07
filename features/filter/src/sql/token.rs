//! Words, literals and signs. Keywords are case-insensitive.

use crate::expression::FilterError;

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Token {
    /// A keyword or a name as written.
    Word(String),
    /// A name in double quotes.
    Quoted(String),
    /// A string in single quotes.
    Text(String),
    Integer(String),
    Float(f64),
    Sign(&'static str),
    End,
}

#[derive(Clone, Debug)]
pub(super) struct Spanned {
    pub(super) token: Token,
    /// In characters, from 1.
    pub(super) column: usize,
}

const SIGNS: [&str; 13] = ["<>", "!=", "<=", ">=", "=", "<", ">", "(", ")", ",", "+", "-", "*"];

pub(super) fn error<T>(column: usize, message: impl Into<String>) -> Result<T, FilterError> {
    Err(FilterError { column, message: message.into() })
}

pub(super) fn tokens(text: &str) -> Result<Vec<Spanned>, FilterError> {
    let chars: Vec<char> = text.chars().collect();
    let mut tokens = Vec::new();
    let mut at = 0;
    loop {
        at = skip_blank(&chars, at)?;
        let column = at + 1;
        let Some(&c) = chars.get(at) else {
            tokens.push(Spanned { token: Token::End, column });
            return Ok(tokens);
        };
        let token = match c {
            '\'' => Token::Text(quoted(&chars, &mut at, "string")?),
            '"' => Token::Quoted(quoted(&chars, &mut at, "name")?),
            _ if c.is_ascii_digit() || (c == '.' && chars.get(at + 1).is_some_and(char::is_ascii_digit)) => {
                number(&chars, &mut at)?
            }
            _ if is_name_start(c) => Token::Word(take(&chars, &mut at, is_name_char)),
            _ => sign(&chars, &mut at)?,
        };
        tokens.push(Spanned { token, column });
    }
}

fn skip_blank(chars: &[char], mut at: usize) -> Result<usize, FilterError> {
    loop {
        match (chars.get(at), chars.get(at + 1)) {
            (Some(c), _) if c.is_whitespace() => at += 1,
            (Some('-'), Some('-')) => {
                while chars.get(at).is_some_and(|c| *c != '\n') {
                    at += 1;
                }
            }
            (Some('/'), Some('*')) => {
                let rest = chars.get(at + 2..).unwrap_or_default();
                match rest.windows(2).position(|pair| pair == ['*', '/']) {
                    Some(end) => at += end + 4,
                    None => return error(at + 1, "the comment is not closed: */ is missing"),
                }
            }
            _ => return Ok(at),
        }
    }
}

/// Text up to the closing quote; a doubled quote is one quote.
fn quoted(chars: &[char], at: &mut usize, what: &str) -> Result<String, FilterError> {
    let (start, quote) = (*at, chars[*at]);
    let mut text = String::new();
    *at += 1;
    loop {
        match (chars.get(*at), chars.get(*at + 1)) {
            (Some(c), Some(next)) if *c == quote && *next == quote => {
                text.push(quote);
                *at += 2;
            }
            (Some(c), _) if *c == quote => {
                *at += 1;
                return Ok(text);
            }
            (Some(c), _) => {
                text.push(*c);
                *at += 1;
            }
            (None, _) => return error(start + 1, format!("the {what} is not closed: {quote} is missing")),
        }
    }
}

fn number(chars: &[char], at: &mut usize) -> Result<Token, FilterError> {
    let start = *at;
    let mut text = take(chars, at, |c| c.is_ascii_digit());
    let mut float = false;
    if chars.get(*at) == Some(&'.') {
        float = true;
        text.push('.');
        *at += 1;
        text += &take(chars, at, |c| c.is_ascii_digit());
    }
    if chars.get(*at).is_some_and(|c| matches!(c, 'e' | 'E')) {
        float = true;
        text.push('e');
        *at += 1;
        if let Some(sign @ ('+' | '-')) = chars.get(*at) {
            text.push(*sign);
            *at += 1;
        }
        text += &take(chars, at, |c| c.is_ascii_digit());
    } else if !float && chars.get(*at).is_some_and(|c| matches!(c, 'l' | 'L')) {
        *at += 1;
    }
    if chars.get(*at).is_some_and(|c| is_name_char(*c)) {
        return error(start + 1, "a name may not start with a digit; put it in double quotes");
    }
    if !float {
        return Ok(Token::Integer(text));
    }
    match text.parse::<f64>() {
        Ok(value) if value.is_finite() => Ok(Token::Float(value)),
        _ => error(start + 1, format!("{text} is no number that a double can hold")),
    }
}

fn sign(chars: &[char], at: &mut usize) -> Result<Token, FilterError> {
    let found = SIGNS.iter().find(|sign| sign.chars().enumerate().all(|(i, c)| chars.get(*at + i) == Some(&c)));
    match found {
        Some(sign) => {
            *at += sign.len();
            Ok(Token::Sign(sign))
        }
        None => {
            let c = chars[*at];
            error(*at + 1, format!("{c:?} means nothing here; names with such characters go in double quotes"))
        }
    }
}

fn take(chars: &[char], at: &mut usize, wanted: impl Fn(char) -> bool) -> String {
    let start = *at;
    while chars.get(*at).is_some_and(|c| wanted(*c)) {
        *at += 1;
    }
    chars[start..*at].iter().collect()
}

fn is_name_start(c: char) -> bool {
    c.is_ascii_alphabetic() || c == '_' || c == '$'
}

fn is_name_char(c: char) -> bool {
    is_name_start(c) || c.is_ascii_digit()
}
