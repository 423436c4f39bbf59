//! What HTTP says must come of a script, whichever generation answers and however often that changes.

use super::{
    app::{Call, Log, Seen, expected_body, hash},
    client::Outcome,
    script::{Answer, Expects, Reads, Request, Script, Tail, Version},
    wire::Response,
};

/// Whether a connection ends with a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Stays,
    /// A body that the service does not read to its end stands between this request and the next.
    MayEnd,
    Ends,
}

/// Holds what came against what had to.
pub(super) fn check(script: &Script, outcome: &Outcome, log: &Log) -> Result<(), String> {
    if let Some(stranger) = log.strangers.first() {
        return Err(format!("a body was taken for a request: {stranger}"));
    }
    let answered = check_responses(script, outcome, log)?;
    check_calls(script, outcome, log, answered)?;
    check_bodies(script, log, answered)?;
    check_end(script, outcome, answered)
}

/// Each is the right one; says how many requests of the script were answered.
fn check_responses(script: &Script, outcome: &Outcome, log: &Log) -> Result<usize, String> {
    let answered = outcome.responses.iter().take_while(|response| response.status != 101).count();
    let answered = answered.min(script.requests.len());
    for (number, response) in outcome.responses[..answered].iter().enumerate() {
        let request = &script.requests[number];
        let Some(generation) = response.number("x-generation") else {
            return Err(format!("request {number} was answered with {} by no generation", response.status));
        };
        if response.number("x-number") != Some(number) {
            return Err(format!("request {number} got the answer of {:?}", response.header("x-number")));
        }
        if log.calls.get(number) != Some(&Call { number, generation }) {
            return Err(format!("request {number} was answered by {generation} and not only: {:?}", log.calls));
        }
        // What has no length may be torn unseen.
        let may_be_torn = matches!(script.tail, Tail::HalfClose) && number + 1 == answered;
        check_response(request, number, response, may_be_torn)?;
        let most = usize::from(request.expects != Expects::Nothing);
        if outcome.continues[number] > most {
            return Err(format!("100 Continue came {} times for request {number}", outcome.continues[number]));
        }
    }
    Ok(answered)
}

fn check_response(request: &Request, number: usize, response: &Response, may_be_torn: bool) -> Result<(), String> {
    let status = match request.answer {
        Answer::NoContent => 204,
        Answer::NotModified => 304,
        _ => 200,
    };
    if response.status != status {
        return Err(format!("request {number} was answered with {}", response.status));
    }
    let expected = if request.head { Vec::new() } else { expected_body(number, &request.answer) };
    match response.body == expected || may_be_torn && expected.starts_with(&response.body) {
        true => Ok(()),
        false => Err(format!("the answer to request {number} is wrong: {} bytes", response.body.len())),
    }
}

/// Each request was seen once, in order, and by no generation older than the one before.
fn check_calls(script: &Script, outcome: &Outcome, log: &Log, answered: usize) -> Result<(), String> {
    let numbers: Vec<_> = log.calls.iter().map(|call| call.number).filter(|number| *number != 999).collect();
    if !numbers.iter().copied().eq(0..numbers.len()) {
        return Err(format!("the requests were seen as {numbers:?}"));
    }
    if !log.calls.is_sorted_by_key(|call| call.generation) {
        return Err(format!("an older generation came after a newer one: {:?}", log.calls));
    }
    let expected = answered + usize::from(outcome.switched.is_some());
    // Without `half_close` hyper drops what it has still to say to a client that has closed its side.
    match numbers.len() == expected || matches!(script.tail, Tail::HalfClose) && numbers.len() > expected {
        true => Ok(()),
        false => Err(format!("{} requests were seen and {expected} answered", numbers.len())),
    }
}

/// What was read of a body is that body.
fn check_bodies(script: &Script, log: &Log, answered: usize) -> Result<(), String> {
    for (number, seen) in &log.read {
        let Some(upload) = script.requests.get(*number).and_then(|request| request.body.as_ref()) else { continue };
        let body = upload.filling.bytes(*number, upload.len);
        let trailers = upload.trailers && upload.chunks.is_some();
        let Seen { len, hash: of_it, is_whole, trailers: got } = *seen;
        let is_prefix = body.get(..len).is_some_and(|prefix| hash(prefix) == of_it);
        if !is_prefix || is_whole && (len, got) != (body.len(), trailers) {
            return Err(format!("the body of request {number} has {} bytes and was read as {seen:?}", body.len()));
        }
    }
    let is_half_closed = matches!(script.tail, Tail::HalfClose);
    for (number, request) in script.requests[..answered].iter().enumerate() {
        let is_whole = || log.read.iter().any(|(other, seen)| *other == number && seen.is_whole);
        if matches!(request.reads, Reads::All | Reads::Later) && !is_half_closed && !is_whole() {
            return Err(format!("the body of request {number} did not come to its end"));
        }
    }
    Ok(())
}

/// The connection has ended where HTTP says so, and nowhere else.
fn check_end(script: &Script, outcome: &Outcome, answered: usize) -> Result<(), String> {
    let is_half_closed = matches!(script.tail, Tail::HalfClose);
    let all = script.requests.len();
    let fates: Vec<_> = script.requests.iter().map(fate).collect();
    if let Some(early) = fates[..answered.saturating_sub(1)].iter().position(|fate| *fate == Fate::Ends) {
        return Err(format!("the connection went on after its last response, {early}"));
    }
    if outcome.is_torn && !is_half_closed {
        return Err(format!("the response after {answered} was torn"));
    }
    let last = answered.checked_sub(1).map_or(Fate::Stays, |last| fates[last]);
    if answered < all || last == Fate::Ends {
        return match (outcome.is_ended, last) {
            _ if is_half_closed => Ok(()),
            (true, Fate::MayEnd | Fate::Ends) if outcome.responses.len() == answered => Ok(()),
            (true, _) => Err(format!("the connection was closed after {answered} answers, for no reason")),
            (false, _) => Err(format!("the connection stays open after {answered} answers")),
        };
    }
    let may_have_ended = outcome.is_ended && last == Fate::MayEnd && outcome.responses.len() == all;
    if may_have_ended { Ok(()) } else { check_tail(script, outcome) }
}

fn check_tail(script: &Script, outcome: &Outcome) -> Result<(), String> {
    let more = &outcome.responses[script.requests.len()..];
    let problem = match &script.tail {
        Tail::Nothing | Tail::Stop => match outcome.probed {
            Some((Some(generation), last)) if generation == last && more.is_empty() => return Ok(()),
            Some(answered) => format!("the last request was answered by {answered:?}"),
            None => "an idle connection was closed".to_owned(),
        },
        Tail::HalfClose => return Ok(()),
        Tail::Garbage | Tail::Preface { .. } | Tail::PartialHeaders => match more {
            [] => return Ok(()),
            [refusal] if refusal.status == 400 && refusal.header("x-number").is_none() => return Ok(()),
            _ => format!("what is no request was answered with {more:?}"),
        },
        Tail::Upgrade { len, filling, .. } => match &outcome.switched {
            Some(bytes) if *bytes == filling.bytes(script.requests.len(), *len) => return Ok(()),
            Some(bytes) => format!("{} bytes came back of {len} that were sent after the switch", bytes.len()),
            None => "the upgrade was not accepted".to_owned(),
        },
    };
    Err(problem)
}

fn fate(request: &Request) -> Fate {
    let has_length = !matches!(request.answer, Answer::Slow(_) | Answer::Pieces(_));
    let ends = match request.version {
        Version::Http10 => true,
        Version::Http10KeepAlive => !has_length && !request.head,
        Version::Http11 => false,
    };
    if ends || request.closes || matches!(request.answer, Answer::Closing(_)) {
        return Fate::Ends;
    }
    let has_body = request.body.as_ref().is_some_and(|body| body.len > 0 || body.chunks.is_some());
    let is_read = matches!(request.reads, Reads::All | Reads::Later);
    let is_unclear = request.version == Version::Http10KeepAlive && !has_length;
    if has_body && !is_read || is_unclear { Fate::MayEnd } else { Fate::Stays }
}
