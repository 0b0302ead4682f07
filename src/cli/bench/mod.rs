use super::Failure;
pub(crate) const EXAMPLES: &str = "callboard bench";
#[derive(Debug, clap::Args)]
pub(crate) struct BenchArgs {}
pub(crate) fn run(_args: BenchArgs) -> Result<(), Failure> {
    Ok(())
}
