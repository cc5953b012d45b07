//! RocksDB as a small box wants it.

use rocksdb::{
    BlockBasedIndexType, BlockBasedOptions, Cache, ColumnFamilyDescriptor, DBCompressionType, LogLevel,
    LruCacheOptions, Options,
};

/// Facts about the index itself.
pub(crate) const META: &str = "default";
/// Batch rows.
pub(crate) const BATCHES: &str = "batches";
/// Tables whose truth is in the log.
pub(crate) const TABLES: &str = "tables";
/// Tables that the caller derives from the log.
pub(crate) const DERIVED: &str = "derived";
/// All of them: they are flushed together.
pub(crate) const ALL: [&str; 4] = [META, BATCHES, TABLES, DERIVED];

/// Memory of the index.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Memory {
    pub(crate) cache_bytes: usize,
    pub(crate) memtable_bytes: usize,
}

pub(crate) fn database(memory: Memory) -> Options {
    let mut options = Options::default();
    options.create_if_missing(true);
    options.create_missing_column_families(true);
    // Rows and the applied position reach the disk together or not at all: there is no WAL.
    options.set_atomic_flush(true);
    options.set_db_write_buffer_size(memory.memtable_bytes);
    options.set_max_background_jobs(2);
    options.set_max_open_files(256);
    options.set_bytes_per_sync(1 << 20);
    options.set_log_level(LogLevel::Error);
    options.set_keep_log_file_num(2);
    options.set_max_log_file_size(1 << 20);
    options.set_stats_dump_period_sec(0);
    options.set_stats_persist_period_sec(0);
    options
}

pub(crate) fn column_families(memory: Memory) -> Vec<ColumnFamilyDescriptor> {
    // A block larger than a shard is never kept: few shards, and filters and indexes in pieces.
    let mut lru = LruCacheOptions::default();
    lru.set_capacity(memory.cache_bytes);
    lru.set_num_shard_bits(1);
    let cache = Cache::new_lru_cache_opts(&lru);
    let family = |name| {
        let mut blocks = BlockBasedOptions::default();
        blocks.set_block_cache(&cache);
        blocks.set_format_version(5);
        // Index and filter blocks count as cache, or they would be memory that nobody bounds.
        blocks.set_cache_index_and_filter_blocks(true);
        blocks.set_pin_l0_filter_and_index_blocks_in_cache(true);
        blocks.set_index_type(BlockBasedIndexType::TwoLevelIndexSearch);
        blocks.set_partition_filters(true);
        blocks.set_metadata_block_size(8 << 10);
        blocks.set_pin_top_level_index_and_filter(true);
        let mut options = Options::default();
        options.set_write_buffer_size(memory.memtable_bytes);
        options.set_max_write_buffer_number(4);
        options.set_compression_type(DBCompressionType::Lz4);
        options.set_target_file_size_base(16 << 20);
        if name == BATCHES {
            // Only seeks, so no filter; retention deletes from the front, and scans must not wade through that.
            options.add_compact_on_deletion_collector_factory(4096, 2048, 0.5);
        } else {
            blocks.set_bloom_filter(10.0, false);
        }
        options.set_block_based_table_factory(&blocks);
        ColumnFamilyDescriptor::new(name, options)
    };
    ALL.map(family).into()
}
