//! Reads what is committed, writes it elsewhere and commits how far it is, all in one transaction.

use std::io;

use kafka_protocol::messages::GroupId;
use kafka_protocol::protocol::StrBytes;
use krocket_testkit::session::Session;

use crate::client::{Failure, Producer, committed, fetch};
use crate::{COPY, LONG, SOURCE, World};

const GROUP: StrBytes = StrBytes::from_static_str("copier");

/// Copies until the test ends and nothing is left to copy.
pub(crate) async fn run(mut world: World) {
    loop {
        let (address, ending) = world.server().await;
        let Ok(session) = Session::connect(address).await else {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            continue;
        };
        let Ok(mut producer) = Producer::init(session, "copier", LONG).await else { continue };
        if copy(&mut producer, &world).await.is_ok() && ending {
            return;
        }
    }
}

/// Comes back at the end of the source, once the test is ending.
async fn copy(producer: &mut Producer, world: &World) -> io::Result<()> {
    let group = GroupId(GROUP);
    let mut offsets = committed(&mut producer.session, &group, SOURCE).await?;
    let mut empty = 0;
    loop {
        let ending = world.is_ending();
        let mut found = false;
        for (partition, offset) in (0..).zip(offsets.iter_mut()) {
            let fetched = fetch(&mut producer.session, SOURCE, partition, *offset, 5).await?;
            found |= *offset < fetched.last_stable;
            *offset = fetched.next;
            let records: Vec<_> = fetched.values().into_iter().map(|value| (None, value)).collect();
            if !records.is_empty() {
                producer.send(COPY, partition, &records).await.map_err(Failure::lost)?;
            }
        }
        if found {
            empty = 0;
            let read: Vec<_> = (0..).zip(offsets).collect();
            producer.stage(&group, SOURCE, &read).await.map_err(Failure::lost)?;
            producer.end(true).await.map_err(Failure::lost)?;
        } else if ending {
            // Writers that are about to end may still commit something.
            empty += 1;
            if empty > 200 {
                return Ok(());
            }
        }
    }
}
