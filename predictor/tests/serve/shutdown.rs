//! The end: red readiness first, answers until the last moment, and soon over.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::common::{PATIENCE, Service, Volume, eventually, request};

#[test]
fn no_request_fails_while_the_service_shuts_down() {
    let volume = Volume::new();
    let mut service = Service::start(&volume, &["--drain", "2s"]);
    let stop = Arc::new(AtomicBool::new(false));
    let callers: Vec<_> = (0..4)
        .map(|_| {
            let (address, stop) = (service.address.clone(), Arc::clone(&stop));
            thread::spawn(move || {
                let mut answered = 0;
                while !stop.load(Ordering::Relaxed) {
                    let answer = request(&address, "GET", "/api/v1/predict/NVDA", "").unwrap();
                    assert_eq!(answer.status, 200, "{answer:?}");
                    answered += 1;
                }
                answered
            })
        })
        .collect();
    thread::sleep(Duration::from_millis(200));
    let asked = Instant::now();
    service.signal_term();
    eventually("readiness turns red", || {
        service.get("/readyz").status == 503
    });
    assert!(
        asked.elapsed() < Duration::from_secs(1),
        "it is red at once"
    );
    assert_eq!(
        service.get("/livez").status,
        200,
        "a probe must not kill it now"
    );
    // In a cluster nothing is sent any more once readiness was seen to be red.
    thread::sleep(Duration::from_millis(800));
    stop.store(true, Ordering::Relaxed);
    let answered: usize = callers
        .into_iter()
        .map(|caller| caller.join().unwrap())
        .sum();
    assert!(answered > 10, "{answered}");
    assert!(service.wait().success());
    assert!(
        asked.elapsed() < Duration::from_secs(10),
        "{:?}",
        asked.elapsed()
    );
}

/// What a caller over kept connections saw until connecting was refused.
struct Load {
    answered: usize,
    failed: Vec<String>,
}

/// Asks without a pause, over another connection after each `connection: close`.
fn ask_until_refused(address: &str, over: &AtomicBool) -> Load {
    let mut load = Load {
        answered: 0,
        failed: Vec::new(),
    };
    while !over.load(Ordering::Relaxed) {
        let Ok(mut stream) = TcpStream::connect(address) else {
            break;
        };
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        loop {
            match ask(&mut stream) {
                Ok(head) => {
                    load.answered += 1;
                    if head.contains("connection: close") {
                        break;
                    }
                }
                Err(error) => {
                    load.failed.push(error.to_string());
                    break;
                }
            }
        }
    }
    load
}

/// One request over a connection that may be kept; the head of its answer.
fn ask(stream: &mut TcpStream) -> std::io::Result<String> {
    stream.write_all(b"GET /api/v1/predict/NVDA HTTP/1.1\r\nhost: x\r\n\r\n")?;
    let (mut bytes, mut buffer) = (Vec::new(), [0; 4096]);
    loop {
        let text = String::from_utf8_lossy(&bytes).to_ascii_lowercase();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head
                .lines()
                .find_map(|line| line.strip_prefix("content-length: "))
                .and_then(|length| length.parse::<usize>().ok())
                .unwrap();
            if body.len() >= length {
                assert!(head.starts_with("http/1.1 200"), "{text}");
                return Ok(head.to_owned());
            }
        }
        match stream.read(&mut buffer)? {
            0 => return Err(std::io::ErrorKind::UnexpectedEof.into()),
            count => bytes.extend_from_slice(&buffer[..count]),
        }
    }
}

#[test]
fn load_that_outlasts_the_drain_is_answered_until_connecting_is_refused() {
    let volume = Volume::new();
    let mut service = Service::start(&volume, &["--drain", "1s"]);
    let over = Arc::new(AtomicBool::new(false));
    let callers: Vec<_> = (0..24)
        .map(|_| {
            let (address, over) = (service.address.clone(), Arc::clone(&over));
            thread::spawn(move || ask_until_refused(&address, &over))
        })
        .collect();
    thread::sleep(Duration::from_millis(500));
    let asked = Instant::now();
    service.signal_term();
    assert!(service.wait().success());
    let took = asked.elapsed();
    assert!(
        took > Duration::from_secs(1) && took < Duration::from_secs(8),
        "{took:?}"
    );
    // Nobody is left after this; a caller that still runs ends at its next refusal anyway.
    over.store(true, Ordering::Relaxed);
    let (mut answered, mut failed) = (0, Vec::new());
    for caller in callers {
        let load = caller.join().unwrap();
        answered += load.answered;
        failed.extend(load.failed);
    }
    assert!(answered > 100, "{answered}");
    assert!(
        failed.is_empty(),
        "{} of {answered} failed: {failed:?}",
        failed.len()
    );
}

#[test]
fn an_idle_or_half_sent_connection_does_not_hold_up_the_end() {
    let volume = Volume::new();
    let mut service = Service::start(&volume, &[]);
    let idle = TcpStream::connect(&service.address).unwrap();
    let mut half = TcpStream::connect(&service.address).unwrap();
    half.write_all(b"GET /api/v1/predict/NVDA HTTP/1.1\r\nhost:")
        .unwrap();
    let mut kept = TcpStream::connect(&service.address).unwrap();
    kept.set_read_timeout(Some(PATIENCE)).unwrap();
    kept.write_all(b"GET /livez HTTP/1.1\r\nhost: x\r\n\r\n")
        .unwrap();
    let mut buffer = [0; 1024];
    assert!(kept.read(&mut buffer).unwrap() > 0);
    let asked = Instant::now();
    service.signal_term();
    assert!(service.wait().success());
    assert!(
        asked.elapsed() < Duration::from_secs(10),
        "{:?}",
        asked.elapsed()
    );
    drop((idle, half));
}

#[test]
fn an_address_that_is_taken_is_named() {
    let volume = Volume::new();
    let service = Service::start(&volume, &[]);
    let done = super::common::predictor()
        .args(["serve", "--listen", &service.address, "--root"])
        .arg(volume.root())
        .output()
        .unwrap();
    assert!(!done.status.success());
    let message = String::from_utf8_lossy(&done.stderr).into_owned();
    assert!(
        message.contains(&service.address) && message.contains("--listen"),
        "{message}"
    );
}

#[test]
fn half_open_connections_do_not_keep_probes_out() {
    let volume = Volume::new();
    let service = Service::start(&volume, &[]);
    let half_open: Vec<_> = (0..1024)
        .map(|_| {
            let mut stream = TcpStream::connect(&service.address).unwrap();
            stream.write_all(b"GET /livez HTTP/1.1\r\nhost:").unwrap();
            stream
        })
        .collect();
    let asked = Instant::now();
    assert_eq!(service.get("/livez").status, 200);
    assert!(
        asked.elapsed() < Duration::from_secs(1),
        "{:?}",
        asked.elapsed()
    );
    thread::sleep(Duration::from_millis(3500));
    for mut stream in half_open {
        stream
            .set_read_timeout(Some(Duration::from_secs(2)))
            .unwrap();
        let mut buffer = [0; 1024];
        // Whether by an end or by a reset, it is over.
        if let Err(error) = stream.read(&mut buffer) {
            assert_ne!(error.kind(), std::io::ErrorKind::WouldBlock, "still open");
        }
    }
    service.stop();
}
