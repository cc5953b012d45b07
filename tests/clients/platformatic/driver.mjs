// @platformatic/kafka.
import { Admin, Consumer, Producer } from '@platformatic/kafka'
import { bootstrap, main, scenario, TopicExists, until } from './scenario.mjs'

const base = { clientId: 'scenario', bootstrapBrokers: [bootstrap], metadataMaxAge: 0 }
const admin = new Admin(base)
const producers = {}

const list = async (topic, partition, timestamp) => {
  const [found] = await admin.listOffsets({ topics: [{ name: topic, partitions: [{ partitionIndex: partition, timestamp: BigInt(timestamp) }] }] })
  return Number(found.partitions[0].offset)
}

function record (m) {
  const headers = [...m.headers.entries()]
  return { key: m.key ?? null, value: m.value ?? null, headers, partition: m.partition, timestamp: Number(m.timestamp), offset: Number(m.offset) }
}

function consumer (groupId, protocol = 'classic') {
  const group = protocol === 'consumer'
    ? { groupProtocol: 'consumer' }
    : { sessionTimeout: scenario.group.session_timeout_ms, heartbeatInterval: scenario.group.heartbeat_ms }
  return new Consumer({ ...base, ...group, groupId, autocommit: false, maxWaitTime: 100, minBytes: 1 })
}

const client = {
  async createTopic (topic, partitions, configs) {
    try {
      await admin.createTopics({
        topics: [topic],
        partitions,
        replicas: 1,
        configs: Object.entries(configs).map(([name, value]) => ({ name, value }))
      })
    } catch (error) {
      if (error.findBy?.('apiId', 'TOPIC_ALREADY_EXISTS')) throw new TopicExists()
      throw error
    }
  },

  async topics () {
    const names = await admin.listTopics()
    const { topics } = await admin.metadata({ topics: names, forceUpdate: true })
    return new Map([...topics].map(([name, t]) => [name, t.partitionsCount]))
  },

  async configs (topic) {
    const [found] = await admin.describeConfigs({ resources: [{ resourceType: 2, resourceName: topic, configurationKeys: null }] })
    return Object.fromEntries(found.configs.map(c => [c.name, c.value]))
  },

  addPartitions: (topic, count) => admin.createPartitions({ topics: [{ name: topic, count, assignments: null }] }),
  deleteTopic: topic => admin.deleteTopics({ topics: [topic] }),
  deleteRecords: (topic, partition, before) =>
    admin.deleteRecords({ topics: [{ name: topic, partitions: [{ partition, offset: BigInt(before) }] }] }),

  async produce (topic, records, codec, idempotent) {
    producers[idempotent] ??= new Producer({ ...base, idempotent })
    const messages = records.map(r => ({
      topic,
      partition: r.partition,
      ...(r.key && { key: r.key }),
      ...(r.value && { value: r.value }),
      ...(r.timestamp && { timestamp: BigInt(r.timestamp) }),
      // Buffers as keys, so that equal names stay apart
      headers: new Map(r.headers.map(([k, v]) => [Buffer.from(k), v]))
    }))
    const { offsets } = await producers[idempotent].send({ messages, acks: -1, compression: codec })
    const next = new Map(offsets.map(o => [o.partition, Number(o.offset)]))
    return records.map(r => {
      const offset = next.get(r.partition)
      next.set(r.partition, offset + 1)
      return offset
    })
  },

  watermarks: (topic, partition) => Promise.all([list(topic, partition, -2), list(topic, partition, -1)]),
  offsetForTime: (topic, partition, ms) => list(topic, partition, ms),

  // A stream always belongs to a group; the other partitions are read from their ends.
  async read (topic, partition, offset, enough) {
    const reader = consumer(`${topic}.read-${partition}-${offset}-${Date.now()}`)
    const partitions = (await client.topics()).get(topic)
    const offsets = []
    for (let p = 0; p < partitions; p++) {
      offsets.push({ topic, partition: p, offset: BigInt(p === partition ? offset : await list(topic, p, -1)) })
    }
    const stream = await reader.consume({ topics: [topic], mode: 'manual', offsets })
    const records = []
    stream.on('data', m => m.partition === partition && !(records.length && enough(records)) && records.push(record(m)))
    stream.on('error', () => {})
    await until(() => records.length && enough(records), '', 30).catch(() => {})
    await reader.close(true)
    return records
  },

  async member (group, topic, protocol, received) {
    const member = consumer(group, protocol)
    const stream = await member.consume({ topics: [topic], mode: 'committed', fallbackMode: 'earliest', highWaterMark: 16 })
    const done = (async () => {
      for await (const message of stream) {
        received([record(message)])
        await message.commit().catch(error => {
          // Its partition has gone to another member, which reads the record again and commits it.
          if (!error.findBy?.('apiId', 'STALE_MEMBER_EPOCH')) throw error
        })
      }
    })().catch(error => console.error(error))
    return async () => {
      await stream.close()
      await done
      await member.close(true)
    }
  },

  async groupRead (group, topic, count) {
    const reader = consumer(group)
    const stream = await reader.consume({ topics: [topic], mode: 'committed', fallbackMode: 'earliest' })
    const records = []
    for await (const message of stream) {
      records.push(record(message))
      if (records.length === count) {
        await message.commit()
        break
      }
    }
    await reader.close(true)
    return records
  },

  async committed (groupId, topic, partition) {
    const [group] = await admin.listConsumerGroupOffsets({ groups: [{ groupId, topics: [{ name: topic, partitionIndexes: [partition] }] }] })
    return Number(group.topics[0]?.partitions[0]?.committedOffset ?? -1)
  }
}

await main(client, {
  binaryHeaderKeys: true,
  redelivers: 'a stream hands out what it fetched before a rebalance',
  protocols: { cooperative: 'no cooperative assignor' }
})
