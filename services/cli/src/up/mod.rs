//! Placeholder until `up` is written: it says so.

use crate::args::UpArgs;
use crate::exit::Exit;
/// Why `up` ended.
pub(crate) use crate::exit::Failure as Error;

/// Serves.
pub(crate) async fn run(args: UpArgs) -> Result<(), Error> {
    let _ = (args.data_dir, args.socket, args.unseal_key_file, args.config, args.host_name);
    Err(Error::new(Exit::Unexpected, "this build cannot serve", "build the whole of it"))
}
