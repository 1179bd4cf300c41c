//! How much room text takes, as far as that can be known without the reader's fonts.

/// In place of what is left out.
const ELLIPSIS: char = '…';

/// The width of text, in the unit of its size; rather too wide than too narrow.
pub(super) fn width(text: &str, size: f64) -> f64 {
    text.chars().map(em).sum::<f64>() * size
}

/// A letter's width relative to its size, as sans-serif fonts have it.
fn em(letter: char) -> f64 {
    match letter {
        'f' | 'i' | 'j' | 'l' | 'r' | 't' | 'I' | '.' | ',' | ':' | ';' | '\'' | '|' | '('
        | ')' | '[' | ']' | ' ' | '-' | '/' | '!' | '\u{a0}' | '·' => 0.4,
        'm' | 'w' | 'M' | 'W' | '%' | '@' | ELLIPSIS => 0.95,
        letter if letter.is_ascii_uppercase() => 0.72,
        letter if letter.is_ascii() => 0.63,
        'µ' | '×' | '−' | '–' | '÷' | 'é' | 'ä' | 'ö' | 'ü' => 0.62,
        // Of other scripts, some are as wide as they are high.
        _ => 1.0,
    }
}

/// Text that fits, without its middle if need be: names differ at their ends.
pub(super) fn elide(text: &str, room: f64, size: f64) -> String {
    if width(text, size) <= room {
        return text.to_owned();
    }
    let letters: Vec<_> = text.chars().collect();
    let mut kept = letters.len();
    loop {
        let (head, tail) = (kept.div_ceil(2), kept / 2);
        let mut shorter: String = letters[..head].iter().collect();
        shorter.push(ELLIPSIS);
        shorter.extend(&letters[letters.len() - tail..]);
        if kept == 0 || width(&shorter, size) <= room {
            return shorter;
        }
        kept -= 1;
    }
}

/// Text in lines that fit, at most so many.
pub(super) fn wrap(text: &str, room: f64, size: f64, most: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if width(line, size) + width(word, size) + size <= room => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(elide(word, room, size)),
        }
    }
    if lines.len() > most {
        lines.truncate(most);
        if let Some(line) = lines.last_mut() {
            line.push(ELLIPSIS);
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_name_keeps_both_its_ends() {
        let name = "uring:auto,-multishot-recv,-provided-buffers,-defer-taskrun";
        let elided = elide(name, 200.0, 13.0);
        assert!(elided.starts_with("uring:auto"), "{elided}");
        assert!(elided.ends_with("-taskrun"), "{elided}");
        assert!(width(&elided, 13.0) <= 200.0);
        assert_eq!(elide("epoll", 200.0, 13.0), "epoll");
        assert_eq!(elide("epoll", 0.0, 13.0), "…");
    }

    #[test]
    fn lines_fit_and_say_if_there_was_more() {
        let text = "it did not start: it ended with exit status: 1: no io_uring here";
        let lines = wrap(text, 200.0, 13.0, 2);
        assert_eq!(lines.len(), 2);
        assert!(lines[1].ends_with('…'), "{lines:?}");
        assert_eq!(wrap(text, 2000.0, 13.0, 2), [text]);
    }
}
