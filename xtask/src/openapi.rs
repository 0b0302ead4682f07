//! The REST interface held against its own description by schemathesis.

use std::path::Path;

use crate::{
    broker::Broker,
    shell::{Context as _, Failure, Program, Workspace},
    tally::Counts,
    tools,
};

/// Pinned, so that a new release of the tool does not change what passes.
const SCHEMATHESIS: &str = "4.32.5";
/// Cases that are made up for each operation.
const EXAMPLES_MAX: &str = "25";

/// A record that nobody processes is answered 504, and must be before the client gives up.
const SETTINGS: &str = "\
[parameters]
\"query.timeout_ms\" = 20

[checks]
not_a_server_error.expected-statuses = [\"2xx\", \"3xx\", \"4xx\", \"504\"]
";

/// Starts a broker that keeps everything in memory and sends it what its description allows and what not: no
/// server error and no answer that is not described may come back.
///
/// # Errors
/// When the broker does not start.
pub fn check(workspace: &Workspace, binary: &Path) -> Result<Counts, Failure> {
    let schemathesis = match tools::python_program(workspace, ("schemathesis", SCHEMATHESIS), "schemathesis")
    {
        Ok(program) => program,
        Err(missing) => return Ok(Counts::skip(missing)),
    };
    let work = std::env::temp_dir().join(format!("callboard-openapi-{}", std::process::id()));
    std::fs::create_dir_all(&work).context(work.display())?;
    // Where the program looks for it by itself.
    std::fs::write(work.join("schemathesis.toml"), SETTINGS).context(work.display())?;
    let broker = Broker::start(binary, &work.join("data"), &work.join("broker.log"), &[])?;
    let description = format!("http://{}/api/v1/openapi.json", broker.address());
    let outcome = Program::new(schemathesis)
        .args(&[
            "run",
            &description,
            "--phases",
            "examples,coverage,fuzzing",
            "--max-examples",
            EXAMPLES_MAX,
        ])
        // The events never end, so no answer could be held against the description.
        .args(&[
            "--exclude-path-regex",
            "/events$",
            "--request-timeout",
            "10",
            "--seed",
            "1",
            "--no-color",
        ])
        .args(&[
            "--checks",
            "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance",
        ])
        .dir(&work)
        .run();
    drop(broker);
    // What is left lies in the temporary directory.
    let _ = std::fs::remove_dir_all(&work);
    outcome.map(|()| Counts::one())
}
