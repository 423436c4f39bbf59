//! Everything that the new process needs. It is made before the fork, as nothing may be allocated after it.

use std::{
    cell::Cell,
    ffi::{CString, OsStr, OsString, c_char, c_int},
    io,
    iter::once,
    os::{
        fd::{AsRawFd, OwnedFd, RawFd},
        unix::ffi::OsStrExt,
    },
    ptr,
};

use super::{
    super::inherit::FIRST,
    moves::{self, Move},
    program::{Program, Value},
};

/// The most digits that a process id has.
const PID_DIGITS: usize = 10;

/// A program in the form that `execve(2)` takes, and how its descriptors get into place.
#[derive(Debug)]
pub(super) struct ExecPlan {
    pub(super) path: CString,
    pub(super) directory: CString,
    pub(super) moves: Vec<Move>,
    /// The first number that is not the program's.
    pub(super) floor: RawFd,
    /// Read by the new process until it may go on.
    pub(super) gate: RawFd,
    /// Written by the new process when it waits, and where something fails; closed by `exec`.
    pub(super) report: RawFd,
    /// The soft limit of open files, if it is another than ours.
    pub(super) open_files: Option<u64>,
    pub(super) ignored: Vec<c_int>,
    /// Both point into the fields below, and are made when those are complete: a text that moves in its box leaves pointers to it
    /// invalid, while the elements of a `Vec` stay where they are when the `Vec` itself moves.
    arguments: Vec<*const c_char>,
    environment: Vec<*const c_char>,
    argument_texts: Vec<CString>,
    variables: Vec<Variable>,
}

/// `NAME=VALUE`.
#[derive(Debug)]
enum Variable {
    Text(CString),
    OwnPid(OwnPid),
}

/// What holds the numbers of `gate` and `report` until the new process has them in a table of its own.
pub(super) type Ends = [OwnedFd; 2];

impl ExecPlan {
    pub(super) fn new(program: &Program, gate: &OwnedFd, report: &OwnedFd) -> io::Result<(Self, Ends)> {
        let argument_texts = program.arguments.iter().map(|argument| text(argument)).collect::<io::Result<Vec<_>>>()?;
        let variables = program.environment.iter().map(|(name, value)| Variable::new(name, value));
        let variables = variables.collect::<io::Result<Vec<_>>>()?;
        let ends = [beyond(gate, floor(program)?)?, beyond(report, floor(program)?)?];
        let mut plan = Self {
            path: text(program.path.as_os_str())?,
            directory: text(program.directory.as_os_str())?,
            moves: Vec::new(),
            floor: floor(program)?,
            gate: ends[0].as_raw_fd(),
            report: ends[1].as_raw_fd(),
            open_files: program.open_files,
            ignored: program.ignored.clone(),
            arguments: Vec::new(),
            environment: Vec::new(),
            argument_texts,
            variables,
        };
        plan.arguments = ended(plan.argument_texts.iter().map(|text| text.as_ptr()));
        plan.environment = ended(plan.variables.iter().map(Variable::as_ptr));
        plan.plan_moves(program);
        Ok((plan, ends))
    }

    /// For `execve`, ended by a null pointer; valid as long as `self`.
    pub(super) fn arguments(&self) -> *const *const c_char {
        self.arguments.as_ptr()
    }

    /// As [`arguments`](Self::arguments).
    pub(super) fn environment(&self) -> *const *const c_char {
        self.environment.as_ptr()
    }

    /// Writes the process id where it belongs in the environment; allocates nothing.
    pub(super) fn write_own_pid(&self, pid: u32) {
        for variable in &self.variables {
            if let Variable::OwnPid(variable) = variable {
                variable.write(pid);
            }
        }
    }

    fn plan_moves(&mut self, program: &Program) {
        let sources: Vec<_> = program.fds.iter().map(AsRawFd::as_raw_fd).collect();
        let needed = |number: &RawFd| sources.contains(number) || [self.gate, self.report].contains(number);
        let spare = (self.floor..RawFd::MAX).find(|number| !needed(number));
        self.moves = moves::plan(&sources, spare.unwrap_or(RawFd::MAX));
    }
}

impl Variable {
    fn new(name: &OsStr, value: &Value) -> io::Result<Self> {
        let mut start = name.to_owned();
        start.push("=");
        match value {
            Value::Text(value) => {
                start.push(value);
                text(&start).map(Self::Text)
            }
            Value::OwnPid => OwnPid::new(&start).map(Self::OwnPid),
        }
    }

    fn as_ptr(&self) -> *const c_char {
        match self {
            Self::Text(text) => text.as_ptr(),
            Self::OwnPid(variable) => variable.as_ptr(),
        }
    }
}

/// `NAME=` and room for a process id, which only the new process knows.
#[derive(Debug)]
struct OwnPid {
    text: Box<[Cell<u8>]>,
    digits_at: usize,
}

impl OwnPid {
    fn new(start: &OsStr) -> io::Result<Self> {
        let start = text(start)?.into_bytes();
        let digits_at = start.len();
        let room = once(0).cycle().take(PID_DIGITS + 1);
        Ok(Self { text: start.into_iter().chain(room).map(Cell::new).collect(), digits_at })
    }

    fn as_ptr(&self) -> *const c_char {
        self.text.as_ptr().cast()
    }

    /// A NUL stays behind the digits, as there is one more place than they can take.
    fn write(&self, pid: u32) {
        let mut divisor = 1_000_000_000;
        let mut place = self.text.iter().skip(self.digits_at);
        while divisor > 0 {
            let digit = pid / divisor;
            if digit > 0 || divisor == 1 {
                if let Some(place) = place.next() {
                    place.set(b'0' + u8::try_from(digit % 10).unwrap_or(0));
                }
            }
            divisor /= 10;
        }
    }
}

/// As `execve(2)` takes a list.
fn ended(pointers: impl Iterator<Item = *const c_char>) -> Vec<*const c_char> {
    pointers.chain(once(ptr::null())).collect()
}

fn text(text: &OsStr) -> io::Result<CString> {
    CString::new(text.as_bytes()).map_err(|_| {
        let problem = format!("{:?} contains a NUL character, which no argument or variable can", OsString::from(text));
        io::Error::new(io::ErrorKind::InvalidInput, problem)
    })
}

fn floor(program: &Program) -> io::Result<RawFd> {
    let count = RawFd::try_from(program.fds.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    count.checked_add(FIRST).ok_or_else(|| io::ErrorKind::InvalidInput.into())
}

/// A copy whose number is beyond those of the program.
fn beyond(fd: &OwnedFd, floor: RawFd) -> io::Result<OwnedFd> {
    Ok(rustix::io::fcntl_dupfd_cloexec(fd, floor)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_id_is_written_in_full_and_ends_with_a_nul() {
        for pid in [1, 9, 10, 42, 4_194_304, u32::MAX] {
            let variable = OwnPid::new(OsStr::new("LISTEN_PID=")).unwrap();
            variable.write(pid);
            let text: Vec<_> = variable.text.iter().map(Cell::get).take_while(|byte| *byte != 0).collect();
            assert_eq!(String::from_utf8(text).unwrap(), format!("LISTEN_PID={pid}"));
            assert_eq!(variable.text.last().map(Cell::get), Some(0));
        }
    }

    #[test]
    fn a_nul_inside_a_text_is_an_error_that_shows_it() {
        let error = text(OsStr::new("a\0b")).unwrap_err();
        assert!(error.to_string().contains("\"a\\0b\" contains a NUL"), "{error}");
    }
}
