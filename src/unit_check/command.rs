//! Command lines of `Exec*=`, as `systemd.service(5)` reads them, and as far as a script can be understood without a
//! shell.
//!
//! What is asked of a line is which program becomes the main process: the one that is named, or a shell or a script in
//! front of it.

use std::ops::Range;

/// Shells that start a program as a child, unless the script says `exec`.
const SHELLS: &[&str] = &["ash", "bash", "busybox", "dash", "fish", "ksh", "mksh", "sh", "zsh"];

/// What ends a script and serves nothing.
const EPILOGUES: &[&str] = &["true", ":", "exit", "echo", "wait"];

/// A word of a command line: what the program gets, and where it is written, without its quotes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Word {
    pub(super) text: String,
    pub(super) written: Range<usize>,
}

/// The words of a command line. Quotes wrap a whole word or a part of it; a backslash takes the next character as it is.
pub(super) fn words(line: &str) -> Vec<Word> {
    let mut words = Vec::new();
    let mut word: Option<Word> = None;
    let mut quote = None;
    let mut letters = line.char_indices();
    while let Some((at, letter)) = letters.next() {
        if quote.is_none() && letter.is_whitespace() {
            words.extend(word.take());
            continue;
        }
        let current = word.get_or_insert_with(|| Word { text: String::new(), written: at..at });
        let mut end = at + letter.len_utf8();
        if quote == Some(letter) {
            quote = None;
            continue;
        }
        match letter {
            '\'' | '"' if quote.is_none() => {
                quote = Some(letter);
                if current.text.is_empty() {
                    current.written = end..end;
                }
                continue;
            }
            '\\' => {
                if let Some((at, escaped)) = letters.next() {
                    end = at + escaped.len_utf8();
                    current.text.push(unescape(escaped));
                }
            }
            _ => current.text.push(letter),
        }
        current.written.end = end;
    }
    words.extend(word);
    words
}

/// The name of the program that a command line starts, without its directory.
pub(super) fn program(line: &str) -> String {
    base_name(&executable(&words(line))).to_owned()
}

/// Whether a command line only sends a signal, so that it cannot know what comes of it.
pub(super) fn only_signals(line: &str) -> bool {
    match script(line) {
        Some(script) => commands(&line[script]).iter().all(|(_, command)| first_word(command) == "kill"),
        None => matches!(program(line).as_str(), "kill" | "pkill" | "killall"),
    }
}

/// For `sh -c` around a program that it does not `exec`: the same line with `exec` in it.
pub(super) fn with_exec(line: &str) -> Option<String> {
    let range = script(line)?;
    let script = &line[range.clone()];
    if commands(script).iter().any(|(_, command)| first_word(command) == "exec") {
        return None;
    }
    let quote = if line[..range.start].ends_with(['\'', '"']) { "" } else { "'" };
    Some(format!("{}{quote}{}{quote}{}", &line[..range.start], exec_last(script), &line[range.end..]))
}

/// The file that a command line runs, or has a shell run: a script, or a program.
pub(super) fn script_file(line: &str) -> Option<String> {
    if script(line).is_some() {
        return None;
    }
    let words = words(line);
    let (program, arguments) = words.split_first()?;
    let path = strip_prefixes(&program.text);
    if !SHELLS.contains(&base_name(path)) {
        return Some(path.to_owned());
    }
    arguments.iter().find(|word| !word.text.starts_with('-')).map(|word| word.text.clone())
}

/// Whether what a command line runs is a script by its name, or by the shell that runs it.
pub(super) fn is_script_name(line: &str) -> bool {
    let is_run_by_a_shell = SHELLS.contains(&program(line).as_str());
    is_run_by_a_shell || script_file(line).is_some_and(|path| path.ends_with(".sh") || path.ends_with(".bash"))
}

/// Whether a line of a script replaces the interpreter by a program: `exec app`, and `os.execv(..)` of other languages.
pub(super) fn execs(line: &str) -> bool {
    let code = line.trim_start();
    !code.starts_with('#') && code.split(|c: char| !c.is_alphanumeric()).any(|word| word.starts_with("exec"))
}

/// Where the script of `sh -c SCRIPT` is written.
fn script(line: &str) -> Option<Range<usize>> {
    let words = words(line);
    let name = |word: &Word| base_name(strip_prefixes(&word.text)).to_owned();
    let shell = words.iter().position(|word| SHELLS.contains(&name(word).as_str()))?;
    if !words[..shell].iter().all(|word| name(word) == "env" || word.text.contains('=')) {
        return None;
    }
    let option = words.iter().skip(shell).position(|word| word.text.starts_with('-') && word.text.ends_with('c'))?;
    words.get(shell + option + 1).map(|script| script.written.clone())
}

/// The commands of a script and where they begin, as far as that is known without a shell: apart at `;`, `&&`, `||`, `|`,
/// `&` and new lines.
fn commands(script: &str) -> Vec<(usize, &str)> {
    let mut start = 0;
    let mut commands = Vec::new();
    for piece in script.split_inclusive([';', '&', '|', '\n']) {
        let command = piece.trim_end_matches([';', '&', '|', '\n']);
        let indent = command.len() - command.trim_start().len();
        commands.push((start + indent, command.trim()));
        start += piece.len();
    }
    commands.retain(|(_, command)| !command.is_empty());
    commands
}

/// `cd /srv && prog; true` to `cd /srv && exec prog`: nothing after an `exec` is run, and no pipe can follow one.
fn exec_last(script: &str) -> String {
    let script = &script[..pipe(script).unwrap_or(script.len())];
    let commands = commands(script);
    let serves = |(_, command): &&(usize, &str)| !EPILOGUES.contains(&first_word(command));
    let (start, command) = commands.iter().rev().find(serves).copied().unwrap_or((0, script));
    format!("{}exec {command}", &script[..start])
}

/// Where the first pipe is; `||` is none.
fn pipe(script: &str) -> Option<usize> {
    script.replace("||", "&&").find('|')
}

fn first_word(command: &str) -> &str {
    command.split_whitespace().next().unwrap_or_default()
}

/// What is run: the first word without its prefixes.
fn executable(words: &[Word]) -> String {
    words.first().map(|word| strip_prefixes(&word.text).to_owned()).unwrap_or_default()
}

/// Without `@`, `-`, `:`, `+`, `!` and `|` of systemd.service(5).
fn strip_prefixes(word: &str) -> &str {
    word.trim_start_matches(['@', '-', ':', '+', '!', '|'])
}

fn base_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

fn unescape(escaped: char) -> char {
    match escaped {
        'n' => '\n',
        't' => '\t',
        'r' => '\r',
        's' => ' ',
        other => other,
    }
}

/// A command line from words that have lost their quotes, as `systemctl show` prints them: a script after `-c` is one word.
pub(super) fn requote(line: &str) -> String {
    match script(line) {
        Some(script) => format!("{}'{}'", &line[..script.start], line[script.start..].replace('\'', "\\'")),
        None => line.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(line: &str) -> Vec<String> {
        words(line).into_iter().map(|word| word.text).collect()
    }

    #[test]
    fn quotes_and_backslashes_hold_a_word_together() {
        assert_eq!(texts(r#"/bin/a  'b c' "d 'e'" f\sg "" h"i j" "#), ["/bin/a", "b c", "d 'e'", "f g", "", "hi j"]);
        let line = "x 'y z' w";
        assert_eq!(&line[words(line)[1].written.clone()], "y z");
    }

    #[test]
    fn a_shell_that_does_not_exec_gets_an_exec_in_the_right_place() {
        for (line, fixed) in [
            ("/bin/sh -c 'prog; true'", "/bin/sh -c 'exec prog'"),
            ("-/bin/bash -ec \"cd /srv && prog --x\"", "-/bin/bash -ec \"cd /srv && exec prog --x\""),
            ("/usr/bin/env A=b sh -c 'prog | logger -t x'", "/usr/bin/env A=b sh -c 'exec prog'"),
            ("/bin/sh -c 'a || b' arg", "/bin/sh -c 'a || exec b' arg"),
            ("/bin/sh -c prog", "/bin/sh -c 'exec prog'"),
        ] {
            assert_eq!(with_exec(line).as_deref(), Some(fixed));
            assert_eq!(with_exec(fixed), None, "{fixed}");
        }
        for line in
            ["/usr/local/bin/app", "/bin/sh -c 'exec app'", "/bin/sh /usr/local/bin/start", "/usr/bin/app sh -c x"]
        {
            assert_eq!(with_exec(line), None, "{line}");
        }
    }

    #[test]
    fn a_command_that_only_signals_differs_from_one_that_may_wait() {
        assert!(only_signals("/bin/kill -HUP $MAINPID"));
        assert!(only_signals("-/bin/sh -c 'kill -HUP $MAINPID'"));
        assert!(!only_signals("/bin/sh -c 'kill -HUP $MAINPID; wait-for-it'"));
        assert!(!only_signals("/usr/local/bin/handoff_request /run/app/handoff.sock"));
    }

    #[test]
    fn a_script_that_has_lost_its_quotes_gets_them_back() {
        assert_eq!(requote("/bin/sh -c prog \"a b\"; true"), "/bin/sh -c 'prog \"a b\"; true'");
        assert_eq!(requote("/usr/local/bin/app --port 1"), "/usr/local/bin/app --port 1");
    }
}
