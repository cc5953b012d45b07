//! From tokens to a condition, by precedence: OR, AND, NOT, comparison, sign.

use std::cmp::Ordering;

use super::token::{Spanned, Token, error, tokens};
use super::value::Value;
use super::{Field, Like, Node, Order, Search};
use crate::expression::FilterError;

/// Deepest nesting of parentheses, NOT and signs.
const MAX_DEPTH: usize = 64;

/// RocketMQ's. LIKE and ESCAPE may be names as well.
const KEYWORDS: [&str; 12] =
    ["AND", "OR", "NOT", "IS", "NULL", "TRUE", "FALSE", "BETWEEN", "IN", "CONTAINS", "STARTSWITH", "ENDSWITH"];

pub(super) fn parse(text: &str) -> Result<Node, FilterError> {
    let mut parser = Parser { tokens: tokens(text)?, at: 0, depth: 0 };
    let start = parser.column();
    let node = parser.or()?;
    if *parser.peek() != Token::End {
        return error(parser.column(), format!("expected AND, OR or the end, found {}", parser.found()));
    }
    condition(node, start)
}

struct Parser {
    tokens: Vec<Spanned>,
    at: usize,
    depth: usize,
}

impl Parser {
    fn or(&mut self) -> Result<Node, FilterError> {
        self.chain("OR", Parser::and, Node::Or)
    }

    fn and(&mut self) -> Result<Node, FilterError> {
        self.chain("AND", Parser::not, Node::And)
    }

    fn chain(
        &mut self,
        keyword: &str,
        operand: fn(&mut Self) -> Result<Node, FilterError>,
        join: fn(Vec<Node>) -> Node,
    ) -> Result<Node, FilterError> {
        let mut column = self.column();
        let first = operand(self)?;
        if !self.is_word(keyword) {
            return Ok(first);
        }
        let mut operands = vec![condition(first, column)?];
        while self.word(keyword) {
            column = self.column();
            operands.push(condition(operand(self)?, column)?);
        }
        Ok(join(operands))
    }

    fn not(&mut self) -> Result<Node, FilterError> {
        if !self.word("NOT") {
            return self.comparison();
        }
        let column = self.column();
        self.deeper(|parser| Ok(Node::Not(Box::new(condition(parser.not()?, column)?))))
    }

    fn comparison(&mut self) -> Result<Node, FilterError> {
        let column = self.column();
        let left = self.sign()?;
        if let Some(sign) = self.any_sign(&["=", "<>", "!="]) {
            return self.equality(left, column, sign);
        }
        if let Some(sign) = self.any_sign(&["<", "<=", ">", ">="]) {
            let order = match sign {
                "<" => Order::Less,
                "<=" => Order::LessOrEqual,
                ">" => Order::Greater,
                _ => Order::GreaterOrEqual,
            };
            let right = self.ordered()?;
            return Ok(Node::Order(order, Box::new(orderable(left, column)?), Box::new(right)));
        }
        if self.word("IS") {
            let negated = self.word("NOT");
            self.expect_word("NULL")?;
            return Ok(negate_if(negated, Node::IsNull(Box::new(left))));
        }
        let negated = self.word("NOT");
        if self.word("BETWEEN") {
            return self.between(left, column, negated);
        }
        if self.word("IN") {
            let list = self.list()?;
            return Ok(negate_if(negated, Node::In(name_of(left, column, "IN")?, list)));
        }
        if self.word("LIKE") {
            let pattern = self.like()?;
            return Ok(negate_if(negated, Node::Like(name_of(left, column, "LIKE")?, pattern)));
        }
        let searches =
            [("CONTAINS", Search::Contains), ("STARTSWITH", Search::StartsWith), ("ENDSWITH", Search::EndsWith)];
        for (keyword, search) in searches {
            if self.word(keyword) {
                let text = self.string(keyword)?;
                return Ok(Node::Search { field: name_of(left, column, keyword)?, search, text, negated });
            }
        }
        if negated {
            return error(
                self.column(),
                format!(
                    "expected BETWEEN, IN, LIKE, CONTAINS, STARTSWITH or ENDSWITH after NOT, found {}",
                    self.found()
                ),
            );
        }
        Ok(left)
    }

    fn equality(&mut self, left: Node, column: usize, sign: &str) -> Result<Node, FilterError> {
        let right_column = self.column();
        let right = self.sign()?;
        for (node, column) in [(&left, column), (&right, right_column)] {
            if *node == Node::Constant(Value::Null) {
                return error(column, "NULL equals nothing; write IS NULL or IS NOT NULL");
            }
        }
        Ok(negate_if(sign != "=", Node::Equal(Box::new(left), Box::new(right))))
    }

    fn between(&mut self, left: Node, column: usize, negated: bool) -> Result<Node, FilterError> {
        let low_column = self.column();
        let low = self.ordered()?;
        self.expect_word("AND")?;
        let high = self.ordered()?;
        if let (Node::Constant(low), Node::Constant(high)) = (&low, &high)
            && high.compare(low) == Some(Ordering::Less)
        {
            return error(low_column, "the first bound of BETWEEN is above the second");
        }
        let left = Box::new(orderable(left, column)?);
        let (low, high) = (Box::new(low), Box::new(high));
        Ok(if negated {
            Node::Or(vec![Node::Order(Order::Less, left.clone(), low), Node::Order(Order::Greater, left, high)])
        } else {
            Node::And(vec![
                Node::Order(Order::GreaterOrEqual, left.clone(), low),
                Node::Order(Order::LessOrEqual, left, high),
            ])
        })
    }

    fn ordered(&mut self) -> Result<Node, FilterError> {
        let column = self.column();
        let node = self.sign()?;
        orderable(node, column)
    }

    fn sign(&mut self) -> Result<Node, FilterError> {
        if self.any_sign(&["+"]).is_some() {
            return self.deeper(Parser::sign);
        }
        if self.any_sign(&["-"]).is_none() {
            return self.primary();
        }
        let column = self.column();
        if let Token::Integer(digits) = self.peek().clone() {
            self.at += 1;
            return integer(&format!("-{digits}"), column);
        }
        self.deeper(|parser| match parser.sign()? {
            Node::Constant(Value::Float(n)) => Ok(Node::Constant(Value::Float(-n))),
            node @ (Node::Field(_) | Node::Negate(_) | Node::Constant(Value::Integer(_))) => {
                Ok(Node::Negate(Box::new(node)))
            }
            _ => error(column, "only a number or a name may follow -"),
        })
    }

    fn primary(&mut self) -> Result<Node, FilterError> {
        let column = self.column();
        let token = self.peek().clone();
        self.at += 1;
        match token {
            Token::Integer(digits) => integer(&digits, column),
            Token::Float(n) => Ok(Node::Constant(Value::Float(n))),
            Token::Text(text) => Ok(Node::Constant(Value::Text(text.into()))),
            Token::Quoted(name) if name.is_empty() => error(column, "a name may not be empty"),
            Token::Quoted(name) => Ok(Node::Field(Field::Header(name))),
            Token::Sign("(") => {
                let inner = self.deeper(Parser::or)?;
                if self.any_sign(&[")"]).is_none() {
                    return error(
                        self.column(),
                        format!("expected ) for the ( of column {column}, found {}", self.found()),
                    );
                }
                Ok(inner)
            }
            Token::Word(word) => match word.to_ascii_uppercase().as_str() {
                "TRUE" => Ok(Node::Constant(Value::Bool(true))),
                "FALSE" => Ok(Node::Constant(Value::Bool(false))),
                "NULL" => Ok(Node::Constant(Value::Null)),
                keyword if KEYWORDS.contains(&keyword) => error(
                    column,
                    format!(
                        "expected a value, found the keyword {keyword}; a header of that name goes in double quotes"
                    ),
                ),
                _ => Ok(Node::Field(named(word))),
            },
            _ => {
                self.at -= 1;
                error(column, format!("expected a value, found {}", self.found()))
            }
        }
    }

    fn list(&mut self) -> Result<Vec<Value<'static>>, FilterError> {
        if self.any_sign(&["("]).is_none() {
            return error(self.column(), format!("expected ( after IN, found {}", self.found()));
        }
        let mut list = Vec::new();
        loop {
            let column = self.column();
            match self.sign()? {
                Node::Constant(value @ (Value::Text(_) | Value::Integer(_) | Value::Float(_))) => list.push(value),
                _ => return error(column, "IN takes strings and numbers"),
            }
            if self.any_sign(&[")"]).is_some() {
                return Ok(list);
            }
            if self.any_sign(&[","]).is_none() {
                return error(self.column(), format!("expected , or ) in the list, found {}", self.found()));
            }
        }
    }

    /// `%` is any text, `_` one character; ESCAPE names a character that takes either literally.
    fn like(&mut self) -> Result<Vec<Like>, FilterError> {
        let column = self.column();
        let text = self.string("LIKE")?;
        let escape = if self.word("ESCAPE") {
            let column = self.column();
            let escape = self.string("ESCAPE")?;
            let mut chars = escape.chars();
            match (chars.next(), chars.next()) {
                (Some(c), None) => Some(c),
                _ => return error(column, "ESCAPE takes one character"),
            }
        } else {
            None
        };
        let mut pattern = Vec::new();
        let mut chars = text.chars();
        while let Some(c) = chars.next() {
            pattern.push(match c {
                c if Some(c) == escape => match chars.next() {
                    Some(literal) => Like::Char(literal),
                    None => return error(column, "the pattern ends in its escape character"),
                },
                '%' => Like::Any,
                '_' => Like::One,
                c => Like::Char(c),
            });
        }
        pattern.dedup_by(|a, b| *a == Like::Any && *b == Like::Any);
        Ok(pattern)
    }

    fn string(&mut self, after: &str) -> Result<String, FilterError> {
        match self.peek().clone() {
            Token::Text(text) => {
                self.at += 1;
                Ok(text)
            }
            _ => error(
                self.column(),
                format!("expected a string in single quotes after {after}, found {}", self.found()),
            ),
        }
    }

    fn deeper<T>(&mut self, inner: impl FnOnce(&mut Self) -> Result<T, FilterError>) -> Result<T, FilterError> {
        if self.depth == MAX_DEPTH {
            let opened = self.tokens.get(self.at.saturating_sub(1)).map_or(1, |spanned| spanned.column);
            return error(opened, format!("nested deeper than {MAX_DEPTH}"));
        }
        self.depth += 1;
        let result = inner(self);
        self.depth -= 1;
        result
    }

    fn peek(&self) -> &Token {
        self.tokens.get(self.at).map_or(&Token::End, |spanned| &spanned.token)
    }

    fn column(&self) -> usize {
        self.tokens.get(self.at).or(self.tokens.last()).map_or(1, |spanned| spanned.column)
    }

    fn is_word(&self, keyword: &str) -> bool {
        matches!(self.peek(), Token::Word(word) if word.eq_ignore_ascii_case(keyword))
    }

    fn word(&mut self, keyword: &str) -> bool {
        let hit = self.is_word(keyword);
        self.at += usize::from(hit);
        hit
    }

    fn expect_word(&mut self, keyword: &str) -> Result<(), FilterError> {
        if self.word(keyword) {
            return Ok(());
        }
        error(self.column(), format!("expected {keyword}, found {}", self.found()))
    }

    fn any_sign(&mut self, signs: &[&'static str]) -> Option<&'static str> {
        match self.peek() {
            Token::Sign(sign) if signs.contains(sign) => {
                let sign = *sign;
                self.at += 1;
                Some(sign)
            }
            _ => None,
        }
    }

    fn found(&self) -> String {
        match self.peek() {
            Token::Word(word) => word.clone(),
            Token::Quoted(name) => format!("\"{name}\""),
            Token::Text(text) => format!("'{text}'"),
            Token::Integer(digits) => digits.clone(),
            Token::Float(n) => n.to_string(),
            Token::Sign(sign) => (*sign).to_owned(),
            Token::End => "the end".to_owned(),
        }
    }
}

fn named(word: String) -> Field {
    match word.as_str() {
        "__key" => Field::Key,
        "__timestamp" => Field::Timestamp,
        "__size" => Field::Size,
        _ => Field::Header(word),
    }
}

fn integer(digits: &str, column: usize) -> Result<Node, FilterError> {
    match digits.parse() {
        Ok(n) => Ok(Node::Constant(Value::Integer(n))),
        Err(_) => error(column, format!("{digits} is no whole number of 64 bits")),
    }
}

fn negate_if(negated: bool, node: Node) -> Node {
    if negated { Node::Not(Box::new(node)) } else { node }
}

fn name_of(node: Node, column: usize, keyword: &str) -> Result<Field, FilterError> {
    match node {
        Node::Field(field) => Ok(field),
        _ => error(column, format!("{keyword} needs a header name on its left")),
    }
}

/// What may stand beside `<`: a number or a name, as in RocketMQ's `checkLessThanOperand`.
fn orderable(node: Node, column: usize) -> Result<Node, FilterError> {
    match node {
        Node::Field(_) | Node::Negate(_) | Node::Constant(Value::Integer(_) | Value::Float(_)) => Ok(node),
        Node::Constant(Value::Text(_)) => error(column, "strings have no order here; compare with a number, or with ="),
        _ => error(column, "only numbers and names can be ordered"),
    }
}

/// What may stand where a truth is needed.
fn condition(node: Node, column: usize) -> Result<Node, FilterError> {
    match node {
        Node::Constant(Value::Text(_) | Value::Integer(_) | Value::Float(_)) | Node::Negate(_) => {
            error(column, "this is a value, not a condition")
        }
        node => Ok(node),
    }
}
