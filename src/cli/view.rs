//! `krocket view`

use clap::{Args, Subcommand};
use serde_json::json;

use super::client::{Paging, Remote, path};
use crate::exit::Failure;

#[derive(Args)]
pub(super) struct View {
    #[command(flatten)]
    remote: Remote,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// All views.
    List {
        #[command(flatten)]
        paging: Paging,
    },
    /// One view: its source, its filter, how far it is.
    Show {
        /// The view.
        name: String,
    },
    /// Make a view.
    Create {
        /// Its name.
        name: String,
        /// The topic that it shows a part of.
        source: String,
        /// Tags (`paid || refunded`) or SQL (`TAGS = 'paid' AND amount > 1000`).
        filter: String,
    },
    /// Remove a view; its source keeps its records.
    Delete {
        /// The view.
        name: String,
    },
    /// Say whether a filter is understood, and where not.
    Check {
        /// The filter.
        filter: String,
    },
}

impl View {
    pub(super) fn run(self) -> Result<(), Failure> {
        let remote = &self.remote;
        match self.command {
            Command::List { paging } => {
                let columns = ["name", "source", "filter", "origin", "state", "lag", "matches"];
                remote.list(&remote.get(&path(&["views"]), &paging.query())?, &columns);
            }
            Command::Show { name } => remote.show(&remote.get(&path(&["views", &name]), &Default::default())?),
            Command::Create { name, source, filter } => {
                let body = json!({"name": name, "source": source, "filter": filter});
                remote.done(&remote.post(&path(&["views"]), &body)?, &format!("view {name} is there"));
            }
            Command::Delete { name } => {
                remote.done(&remote.delete(&path(&["views", &name]))?, &format!("view {name} is gone"));
            }
            Command::Check { filter } => {
                remote.done(&remote.post(&path(&["views", "check"]), &json!({"filter": filter}))?, "ok");
            }
        }
        Ok(())
    }
}
