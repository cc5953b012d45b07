// kafkajs; its codecs come from kafkajs-snappy, wasm-utils and Node's zlib.
import zlib from 'node:zlib'
import { lz4Compress, lz4Decompress } from '@platformatic/wasm-utils'
import kafkajs from 'kafkajs'
import snappy from 'kafkajs-snappy'
import { bootstrap, main, scenario, sleep, TopicExists, until } from './scenario.mjs'

const { CompressionTypes, CompressionCodecs, Kafka, logLevel, Partitioners } = kafkajs
CompressionCodecs[CompressionTypes.Snappy] = snappy
CompressionCodecs[CompressionTypes.LZ4] = () => ({
  compress: async encoder => lz4Compress(encoder.buffer),
  decompress: async buffer => lz4Decompress(buffer)
})
CompressionCodecs[CompressionTypes.ZSTD] = () => ({
  compress: async encoder => zlib.zstdCompressSync(encoder.buffer),
  decompress: async buffer => zlib.zstdDecompressSync(buffer)
})
const codecs = { none: 0, gzip: 1, snappy: 2, lz4: 3, zstd: 4 }

const kafka = new Kafka({ brokers: [bootstrap], logLevel: logLevel.ERROR })
const admin = kafka.admin()
await admin.connect()
const producers = {}

async function producer (idempotent) {
  if (!producers[idempotent]) {
    producers[idempotent] = kafka.producer({
      idempotent,
      maxInFlightRequests: 1,
      createPartitioner: Partitioners.DefaultPartitioner,
      metadataMaxAge: 1000
    })
    await producers[idempotent].connect()
  }
  return producers[idempotent]
}

function record (partition, m) {
  const headers = Object.entries(m.headers ?? {}).flatMap(([k, v]) => [v].flat().map(one => [k, one]))
  return { key: m.key, value: m.value, headers, partition, timestamp: Number(m.timestamp), offset: Number(m.offset) }
}

const offsets = async topic => {
  const list = await admin.fetchTopicOffsets(topic)
  return partition => list.find(o => o.partition === partition)
}

function consumer (groupId) {
  return kafka.consumer({
    groupId,
    sessionTimeout: scenario.group.session_timeout_ms,
    heartbeatInterval: scenario.group.heartbeat_ms,
    maxWaitTimeInMs: 100
  })
}

const client = {
  async createTopic (topic, numPartitions, configs) {
    const configEntries = Object.entries(configs).map(([name, value]) => ({ name, value }))
    if (!await admin.createTopics({ topics: [{ topic, numPartitions, replicationFactor: 1, configEntries }] })) throw new TopicExists()
  },

  async topics () {
    const { topics } = await admin.fetchTopicMetadata()
    return new Map(topics.map(t => [t.name, t.partitions.length]))
  },

  async configs (topic) {
    const { resources } = await admin.describeConfigs({ resources: [{ type: 2, name: topic }] })
    return Object.fromEntries(resources[0].configEntries.map(e => [e.configName, e.configValue]))
  },

  addPartitions: (topic, count) => admin.createPartitions({ topicPartitions: [{ topic, count }] }),
  deleteTopic: topic => admin.deleteTopics({ topics: [topic] }),
  deleteRecords: (topic, partition, before) => admin.deleteTopicRecords({ topic, partitions: [{ partition, offset: String(before) }] }),

  async produce (topic, records, codec, idempotent) {
    const messages = records.map(r => {
      const headers = {}
      for (const [k, v] of r.headers) headers[k] = k in headers ? [headers[k], v].flat() : v
      return { key: r.key, value: r.value, partition: r.partition, headers, timestamp: r.timestamp && String(r.timestamp) }
    })
    const acks = await (await producer(idempotent)).send({ topic, messages, acks: -1, compression: codecs[codec] })
    const next = new Map(acks.map(a => [a.partition, Number(a.baseOffset)]))
    return records.map(r => {
      const offset = next.get(r.partition)
      next.set(r.partition, offset + 1)
      return offset
    })
  },

  async watermarks (topic, partition) {
    const found = (await offsets(topic))(partition)
    return [Number(found.low), Number(found.high)]
  },

  async offsetForTime (topic, partition, ms) {
    const list = await admin.fetchTopicOffsetsByTimestamp(topic, ms)
    return Number(list.find(o => o.partition === partition).offset)
  },

  // kafkajs always consumes in a group.
  async read (topic, partition, offset, enough) {
    const reader = consumer(`${topic}.read-${partition}-${offset}-${Date.now()}`)
    const records = []
    await reader.connect()
    await reader.subscribe({ topic, fromBeginning: true })
    let sought = false
    await reader.run({
      autoCommit: false,
      eachBatch: async ({ batch }) => {
        if (sought && batch.partition === partition && !(records.length && enough(records))) {
          records.push(...batch.messages.filter(m => Number(m.offset) >= offset).map(m => record(partition, m)))
        }
      }
    })
    sought = true
    reader.seek({ topic, partition, offset: String(offset) })
    await until(() => records.length && enough(records), '', 30).catch(() => {})
    await reader.disconnect()
    return records
  },

  async member (group, topic, protocol, received) {
    const member = consumer(group)
    await member.connect()
    await member.subscribe({ topic, fromBeginning: true })
    await member.run({
      autoCommit: false,
      eachBatch: async ({ batch }) => {
        received(batch.messages.map(m => record(batch.partition, m)))
        await member.commitOffsets([{ topic, partition: batch.partition, offset: String(Number(batch.lastOffset()) + 1) }])
      }
    })
    return () => member.disconnect()
  },

  async groupRead (group, topic, count) {
    const reader = consumer(group)
    const records = []
    await reader.connect()
    await reader.subscribe({ topic, fromBeginning: true })
    await reader.run({
      autoCommit: false,
      eachMessage: async ({ partition, message }) => {
        if (records.length === count) return
        records.push(record(partition, message))
        if (records.length === count) {
          await reader.commitOffsets([{ topic, partition, offset: String(Number(message.offset) + 1) }])
        }
      }
    })
    await until(() => records.length === count, '', 40).catch(() => {})
    await sleep(200) // the commit
    await reader.disconnect()
    return records
  },

  async transactional (transactionalId) {
    const producer = kafka.producer({ transactionalId, idempotent: true, maxInFlightRequests: 1, retry: { retries: 3 } })
    await producer.connect()
    let txn
    return {
      begin: async () => { txn = await producer.transaction() },
      produce: (topic, records) => txn.send({ topic, messages: records.map(({ key, value, partition }) => ({ key, value, partition })) }),
      offset: (consumerGroupId, topic, partition, offset) =>
        txn.sendOffsets({ consumerGroupId, topics: [{ topic, partitions: [{ partition, offset: String(offset) }] }] }),
      end: commit => commit ? txn.commit() : txn.abort()
    }
  },

  // kafkajs reads under read_committed unless it is told otherwise.
  readCommitted (topic, partition, count) {
    return client.read(topic, partition, 0, records => records.length >= count)
  },

  async committed (groupId, topic, partition) {
    const [found] = await admin.fetchOffsets({ groupId, topics: [topic] })
    return Number(found.partitions.find(p => p.partition === partition)?.offset ?? -1)
  }
}

await main(client, {
  headersGrouped: true,
  emptyKeys: true,
  noTimeMiss: true,
  protocols: { cooperative: 'no cooperative assignor', consumer: 'no KIP-848 protocol' }
})
