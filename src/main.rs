//! The command line of Callboard; everything it does is in the library or in [`cli`].

mod cli;

fn main() -> std::process::ExitCode {
    cli::main()
}
