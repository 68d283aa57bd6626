//! Paths in the arguments of macros and attributes, which are not parsed.

use proc_macro2::{Delimiter, TokenStream, TokenTree};

/// A path in tokens.
#[derive(Debug, PartialEq, Eq)]
pub struct TokenPath {
    /// Its names.
    pub segments: Vec<String>,
    /// Whether it is called as a macro.
    pub is_macro: bool,
    /// Where it begins.
    pub line: usize,
}

/// The paths in some tokens. A single name in lower case counts only if it is called, as it may be a variable.
pub fn paths(tokens: TokenStream) -> Vec<TokenPath> {
    let mut found = Vec::new();
    collect(tokens, &mut found);
    found
}

fn collect(tokens: TokenStream, found: &mut Vec<TokenPath>) {
    let trees: Vec<TokenTree> = tokens.into_iter().collect();
    let mut at = 0;
    while at < trees.len() {
        match &trees[at] {
            TokenTree::Group(group) => collect(group.stream(), found),
            TokenTree::Ident(first) if !is_member(&trees, at) => {
                let mut segments = vec![first.to_string()];
                let line = first.span().start().line;
                while let Some(TokenTree::Ident(next)) = trees.get(at + 3)
                    && is_punct(&trees, at + 1, ':')
                    && is_punct(&trees, at + 2, ':')
                {
                    segments.push(next.to_string());
                    at += 3;
                }
                let is_macro = is_punct(&trees, at + 1, '!') && !is_punct(&trees, at + 2, '=');
                let is_called = matches!(trees.get(at + 1), Some(TokenTree::Group(group))
                    if group.delimiter() == Delimiter::Parenthesis);
                let is_upper = segments[0].starts_with(char::is_uppercase);
                if segments.len() > 1 || is_macro || is_called || is_upper {
                    found.push(TokenPath { segments, is_macro, line });
                }
            }
            TokenTree::Ident(_) | TokenTree::Punct(_) | TokenTree::Literal(_) => {}
        }
        at += 1;
    }
}

/// What serde reads as a path though it stands in quotes.
const QUOTED: [&str; 8] = [
    "default",
    "deserialize_with",
    "from",
    "into",
    "serialize_with",
    "skip_serializing_if",
    "try_from",
    "with",
];

/// The paths that stand in quotes behind such a name, as in `#[serde(with = "a::b")]`.
pub fn quoted_paths(tokens: TokenStream) -> Vec<TokenPath> {
    let trees: Vec<TokenTree> = tokens.into_iter().collect();
    let triples = trees.windows(3).filter_map(|three| {
        let [TokenTree::Ident(key), TokenTree::Punct(equals), TokenTree::Literal(text)] = three else {
            return None;
        };
        let text = text.to_string();
        let path = text.strip_prefix('"')?.strip_suffix('"')?;
        let is_path = equals.as_char() == '=' && QUOTED.iter().any(|quoted| key == quoted);
        let segments = path.split("::").map(str::to_owned).collect();
        is_path.then(|| TokenPath { segments, is_macro: false, line: key.span().start().line })
    });
    triples.collect()
}

/// Whether the name at a place follows a single dot (a field or method) or begins a lifetime.
fn is_member(trees: &[TokenTree], at: usize) -> bool {
    let before = |back: usize, sign| at.checked_sub(back).is_some_and(|at| is_punct(trees, at, sign));
    before(1, '\'') || before(1, '.') && !before(2, '.')
}

fn is_punct(trees: &[TokenTree], at: usize, sign: char) -> bool {
    matches!(trees.get(at), Some(TokenTree::Punct(punct)) if punct.as_char() == sign)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_and_calls_are_found_and_fields_are_not() {
        let tokens = "a.b, c::D, 0..E, f(x.g()), 'h', crate::i!(j), k != l, Self { m: n }";
        let found = paths(tokens.parse().unwrap());
        let names: Vec<_> = found.iter().map(|path| path.segments.join("::")).collect();
        assert_eq!(names, ["c::D", "E", "f", "crate::i", "Self"]);
        assert!(found[3].is_macro);
    }

    #[test]
    fn quoted_paths_are_found_by_their_key() {
        let tokens = r#"rename = "a", with = "b::c", default"#;
        let found = quoted_paths(tokens.parse().unwrap());
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].segments, ["b", "c"]);
    }
}
