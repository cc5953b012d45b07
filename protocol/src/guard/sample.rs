//! Random valid bodies, for tests and fuzzing.

use super::schema::{Field, Kind, Schema};

/// Values that mean something to the server, so that samples get past its first checks. Empty for none.
#[derive(Clone, Copy, Debug, Default)]
pub struct Words<'a> {
    /// For strings: names of topics, groups, configs.
    pub texts: &'a [&'a str],
    /// For bytes: record batches, metadata of group members.
    pub blobs: &'a [&'a [u8]],
    /// For UUIDs: topic ids.
    pub ids: &'a [[u8; 16]],
}

/// Writes random messages of a shape.
pub struct Sampler<'a, R> {
    random: R,
    version: i16,
    flexible: bool,
    unknown_tags: bool,
    words: Words<'a>,
}

impl<'a, R: FnMut() -> u32> Sampler<'a, R> {
    /// A sampler that draws from `random`; with `unknown_tags` it adds tagged fields that nobody defined.
    pub fn new(random: R, unknown_tags: bool) -> Self {
        Sampler { random, version: 0, flexible: false, unknown_tags, words: Words::default() }
    }

    /// Uses these words in three of four places where they fit.
    pub fn with_words(self, words: Words<'a>) -> Self {
        Sampler { words, ..self }
    }

    /// A body of this shape at this version.
    pub fn body(&mut self, schema: &Schema, version: i16) -> Vec<u8> {
        self.version = version;
        self.flexible = version >= schema.flexible;
        let mut out = Vec::new();
        self.structure(schema.fields, &mut out);
        out
    }

    fn below(&mut self, limit: u32) -> u32 {
        (self.random)() % limit
    }

    fn structure(&mut self, fields: &[Field], out: &mut Vec<u8>) {
        let version = self.version;
        for field in fields.iter().filter(|field| field.is_in(version) && field.tag.is_none()) {
            self.value(field, out);
        }
        if !self.flexible {
            return;
        }
        let mut tagged = Vec::new();
        for field in fields.iter().filter(|field| field.is_in(version)) {
            if let (Some(tag), 0) = (field.tag, self.below(2)) {
                let mut value = Vec::new();
                self.value(field, &mut value);
                tagged.push((tag, value));
            }
        }
        if self.unknown_tags && self.below(4) == 0 {
            tagged.push((100 + self.below(1000), self.text()));
        }
        put_unsigned_varint(out, tagged.len() as u32);
        for (tag, value) in tagged {
            put_unsigned_varint(out, tag);
            put_unsigned_varint(out, value.len() as u32);
            out.extend_from_slice(&value);
        }
    }

    fn value(&mut self, field: &Field, out: &mut Vec<u8>) {
        let null = field.nullable <= self.version && self.below(4) == 0;
        match field.kind {
            Kind::Fixed(16) => {
                let id = self.word(self.words.ids).copied();
                out.extend_from_slice(&id.unwrap_or_else(|| std::array::from_fn(|_| (self.random)() as u8)));
            }
            Kind::Fixed(len) => {
                let number = self.number();
                out.extend_from_slice(&number.to_be_bytes()[8 - len..]);
            }
            Kind::Struct(fields) => {
                if field.nullable <= self.version {
                    out.push(if null { -1i8 as u8 } else { 1 });
                }
                if !null {
                    self.structure(fields, out);
                }
            }
            kind if null => self.length(kind, -1, out),
            Kind::String | Kind::Bytes => {
                let word = match field.kind {
                    Kind::String => self.word(self.words.texts).map(|text| text.as_bytes()),
                    _ => self.word(self.words.blobs).copied(),
                };
                let text = word.map_or_else(|| self.text(), <[u8]>::to_vec);
                self.length(field.kind, text.len() as i32, out);
                out.extend_from_slice(&text);
            }
            Kind::Values(kind) => {
                let count = self.below(4);
                self.length(field.kind, count as i32, out);
                let element = Field { kind: *kind, nullable: super::schema::NEVER, ..*field };
                (0..count).for_each(|_| self.value(&element, out));
            }
            Kind::Structs(fields) => {
                let count = self.below(4);
                self.length(field.kind, count as i32, out);
                (0..count).for_each(|_| self.structure(fields, out));
            }
        }
    }

    fn length(&self, kind: Kind, length: i32, out: &mut Vec<u8>) {
        match kind {
            _ if self.flexible => put_unsigned_varint(out, (length + 1) as u32),
            Kind::String => out.extend_from_slice(&(length as i16).to_be_bytes()),
            _ => out.extend_from_slice(&length.to_be_bytes()),
        }
    }

    /// Numbers as clients send them, numbers at the edges, any number.
    fn number(&mut self) -> i64 {
        match self.below(8) {
            0..4 => i64::from(self.below(4)),
            4 => -1,
            5 => [i64::MIN, i64::MAX, i32::MIN.into(), i32::MAX.into(), i64::MAX - 1][self.below(5) as usize],
            _ => i64::from((self.random)()) << 32 | i64::from((self.random)()),
        }
    }

    fn word<T>(&mut self, words: &'a [T]) -> Option<&'a T> {
        if words.is_empty() || self.below(4) == 0 { None } else { words.get(self.below(words.len() as u32) as usize) }
    }

    /// ASCII, now and then long enough for a length of two varint bytes.
    fn text(&mut self) -> Vec<u8> {
        let limit = if self.below(16) == 0 { 300 } else { 12 };
        let len = self.below(limit);
        (0..len).map(|_| b'a' + self.below(26) as u8).collect()
    }
}

fn put_unsigned_varint(out: &mut Vec<u8>, mut value: u32) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Calls a macro with every request that has a shape, as `Produce => ProduceRequest, ...`: for tests and fuzzing that
/// go through all of the `kafka-protocol` crate's decoders.
#[macro_export]
macro_rules! for_each_request {
    ($callback:ident) => {
        $callback! {
            Produce => ProduceRequest,
            Fetch => FetchRequest,
            ListOffsets => ListOffsetsRequest,
            Metadata => MetadataRequest,
            ApiVersions => ApiVersionsRequest,
            InitProducerId => InitProducerIdRequest,
            OffsetForLeaderEpoch => OffsetForLeaderEpochRequest,
            AddPartitionsToTxn => AddPartitionsToTxnRequest,
            AddOffsetsToTxn => AddOffsetsToTxnRequest,
            EndTxn => EndTxnRequest,
            WriteTxnMarkers => WriteTxnMarkersRequest,
            TxnOffsetCommit => TxnOffsetCommitRequest,
            ShareFetch => ShareFetchRequest,
            ShareAcknowledge => ShareAcknowledgeRequest,
            SaslHandshake => SaslHandshakeRequest,
            SaslAuthenticate => SaslAuthenticateRequest,
            OffsetCommit => OffsetCommitRequest,
            OffsetFetch => OffsetFetchRequest,
            OffsetDelete => OffsetDeleteRequest,
            FindCoordinator => FindCoordinatorRequest,
            JoinGroup => JoinGroupRequest,
            Heartbeat => HeartbeatRequest,
            LeaveGroup => LeaveGroupRequest,
            SyncGroup => SyncGroupRequest,
            DescribeGroups => DescribeGroupsRequest,
            ListGroups => ListGroupsRequest,
            DeleteGroups => DeleteGroupsRequest,
            ConsumerGroupHeartbeat => ConsumerGroupHeartbeatRequest,
            ConsumerGroupDescribe => ConsumerGroupDescribeRequest,
            ShareGroupHeartbeat => ShareGroupHeartbeatRequest,
            ShareGroupDescribe => ShareGroupDescribeRequest,
            DescribeShareGroupOffsets => DescribeShareGroupOffsetsRequest,
            AlterShareGroupOffsets => AlterShareGroupOffsetsRequest,
            DeleteShareGroupOffsets => DeleteShareGroupOffsetsRequest,
            StreamsGroupHeartbeat => StreamsGroupHeartbeatRequest,
            StreamsGroupDescribe => StreamsGroupDescribeRequest,
            CreateTopics => CreateTopicsRequest,
            DeleteTopics => DeleteTopicsRequest,
            DeleteRecords => DeleteRecordsRequest,
            CreatePartitions => CreatePartitionsRequest,
            DescribeTopicPartitions => DescribeTopicPartitionsRequest,
            DescribeConfigs => DescribeConfigsRequest,
            AlterConfigs => AlterConfigsRequest,
            IncrementalAlterConfigs => IncrementalAlterConfigsRequest,
            ListConfigResources => ListConfigResourcesRequest,
            DescribeLogDirs => DescribeLogDirsRequest,
            DescribeQuorum => DescribeQuorumRequest,
            DescribeCluster => DescribeClusterRequest,
            DescribeProducers => DescribeProducersRequest,
            DescribeTransactions => DescribeTransactionsRequest,
            ListTransactions => ListTransactionsRequest,
            ElectLeaders => ElectLeadersRequest,
            AlterPartitionReassignments => AlterPartitionReassignmentsRequest,
            ListPartitionReassignments => ListPartitionReassignmentsRequest,
            DescribeAcls => DescribeAclsRequest,
            CreateAcls => CreateAclsRequest,
            DeleteAcls => DeleteAclsRequest,
            DescribeClientQuotas => DescribeClientQuotasRequest,
            AlterClientQuotas => AlterClientQuotasRequest,
            DescribeUserScramCredentials => DescribeUserScramCredentialsRequest,
            AlterUserScramCredentials => AlterUserScramCredentialsRequest,
        }
    };
}
