//! Django at two sites of a shared database, writing at once and while apart: no row is lost, the
//! application sees no error, and both end alike. It installs Django from the Python package
//! index, so it is a program of its own beside the tests, which CI does not run.
//!
//! `cargo run -p tests --example django [ROUNDS]`

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "it is a test")]

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Instant;
use tests::shop::{Shop, wait_until_alike};
use tests::site::Home;
use tests::wait::{PATIENCE, wait_until};

/// A Python with Django, kept in the target folder.
fn django() -> PathBuf {
    let folder = std::env::temp_dir().join("holdfast-django");
    let python = folder.join("bin/python");
    let has_django = |python: &Path| {
        Command::new(python).args(["-c", "import django"]).status().is_ok_and(|s| s.success())
    };
    if !has_django(&python) {
        let made = Command::new("python3").args(["-m", "venv"]).arg(&folder).status().unwrap();
        assert!(made.success(), "python3 has no venv");
        let installed = Command::new(&python)
            .args(["-m", "pip", "install", "--quiet", "django>=5.1,<6"])
            .status()
            .unwrap();
        assert!(installed.success(), "Django can't be installed");
    }
    python
}

struct Application {
    python: PathBuf,
}

impl Application {
    fn start(&self, shop: &Path, words: &[&str]) -> Child {
        let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("django/shop_site.py");
        Command::new(&self.python)
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .arg(program)
            .arg(shop)
            .args(words)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    }

    fn run(&self, shop: &Path, words: &[&str]) {
        end(self.start(shop, words));
    }

    /// Sells orders at both at once.
    fn work(&self, shops: [&Shop; 2], from: u32, to: u32) {
        let (from, to) = (from.to_string(), to.to_string());
        let words = |shop: &Shop| ["work", &shop.site.name, &from, &to].map(str::to_owned);
        let both = shops.map(|shop| {
            let words = words(shop);
            self.start(&shop.path, &words.each_ref().map(String::as_str))
        });
        both.into_iter().for_each(end);
    }
}

fn end(application: Child) {
    let output = application.wait_with_output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "the application saw an error: {error}");
}

fn main() {
    let application = Application { python: django() };
    let home = Home::new();
    let (first, second) = home.two();
    application.run(&home.path("downtown.db"), &["migrate"]);
    let (downtown, mut uptown) = Shop::both(&home, (first, second), "");
    downtown.site.done(&["policy", "club", "shop_product.stock", "counter"]);
    wait_until("the rule is at uptown", PATIENCE, || {
        uptown.site.done(&["policy", "club"]).contains("counter")
    });
    let check = |orders: u32, downtown: &Shop, uptown: &Shop| {
        wait_until_alike(&[downtown, uptown]);
        let orders = orders.to_string();
        for shop in [downtown, uptown] {
            let words = ["check", "downtown", &orders, "uptown", &orders];
            application.run(&shop.path, &words);
            assert_eq!(shop.kinds(), [""; 0]);
            assert_eq!(shop.site.status()["alarms"].as_array().unwrap().len(), 0);
        }
    };
    // As fast as Django is: a row whose number were given out twice would get another, and Django,
    // which saves by the number that it once read, would make it anew.
    let rounds: u32 = std::env::args().nth(1).map_or(1, |rounds| rounds.parse().unwrap());
    for round in 0..rounds {
        let begun = Instant::now();
        let (from, apart, to) = (round * 200, round * 200 + 100, round * 200 + 200);
        application.work([&downtown, &uptown], from, apart);
        check(apart, &downtown, &uptown);
        uptown.site.stop();
        application.work([&downtown, &uptown], apart, to);
        uptown.site.run();
        check(to, &downtown, &uptown);
        println!(
            "{} orders of two sites are at both, and Django saw no error; this round took {:.1} s",
            2 * to,
            begun.elapsed().as_secs_f64()
        );
    }
}
