// The scenario for clients that are driven from Node: a driver supplies a client, the cases are here.
// README.md says what a driver is given and has to print.
//
// A client has these methods, all async; records are {key, value, headers, partition, timestamp, offset} with Buffers
// (or null), headers as a list of [name, Buffer or null], timestamps in ms, offsets as numbers. Records are produced with
// acks=all. A method that is missing makes its cases skip.
//
//   createTopic(topic, partitions, configs)   throws TopicExists
//   topics()                                  Map of name to number of partitions
//   configs(topic)                            object
//   addPartitions(topic, total), deleteTopic(topic), deleteRecords(topic, partition, before)
//   produce(topic, records, codec, idempotent)        offsets
//   watermarks(topic, partition)                      [earliest, latest]
//   offsetForTime(topic, partition, ms)               offset or -1
//   read(topic, partition, offset, enough)            records, without a group or in one of its own, for 30 s at most
//   member(group, topic, protocol, received)          joins; returns an async function that leaves
//   groupRead(group, topic, count)                    joins, takes `count` records, commits after them, leaves
//   committed(group, topic, partition)                offset or -1
//
// Traits: headersGrouped (equal names come together), nullHeaders, binaryHeaderKeys, emptyKeys (an empty key or value
// differs from a null one), noTimeMiss (offsetForTime can't tell that there is none), redelivers (the client's own group
// protocol may deliver records twice; says why), codecs, protocols (object: name to the reason for skipping it).
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'

export const bootstrap = process.env.KROCKET_BOOTSTRAP
const name = process.env.KROCKET_CLIENT
const prefix = process.env.KROCKET_PREFIX
export const scenario = JSON.parse(readFileSync(process.env.KROCKET_SCENARIO))

export class Skip extends Error {}
export class TopicExists extends Error {}
export { sleep }

const range = (from, to) => Array.from({ length: to - from }, (_, i) => from + i)
const text = x => Buffer.from(String(x))
const record = (value, more) => ({ key: null, value: value === null ? null : text(value), headers: [], partition: 0, ...more })

// Waits for a state that the broker reaches in its own time.
export async function until (condition, what, seconds = 15) {
  const deadline = Date.now() + seconds * 1000
  while (!(await condition())) {
    assert.ok(Date.now() < deadline, `not within ${seconds} s: ${what}`)
    await sleep(50)
  }
}

// Shows any change of a byte: sizes from 0, every byte value, empty and binary headers.
function payload (i) {
  return {
    key: text(`key-${String(i).padStart(5, '0')}`),
    value: Buffer.from(range(0, (i * 37) % 1000).map(j => i + j * 7)),
    headers: [['i', text(i)], ['empty', Buffer.alloc(0)], ['bytes', Buffer.from([255, 254, 0, i])]],
    partition: 0
  }
}

function show (bytes, emptyKeys) {
  if (bytes == null || (!emptyKeys && bytes.length === 0)) return null
  return Buffer.from(bytes).toString('latin1')
}

class Cases {
  constructor (client, traits) {
    this.client = client
    this.traits = traits
  }

  content (r) {
    const headers = r.headers.map(([k, v]) => [Buffer.from(k).toString('latin1'), show(v, this.traits.nullHeaders)])
    return { key: show(r.key, this.traits.emptyKeys), value: show(r.value, this.traits.emptyKeys), headers }
  }

  same (got, wanted, what) {
    try {
      assert.deepEqual(got, wanted)
    } catch {
      const brief = x => JSON.stringify(x, (_, v) => typeof v === 'bigint' ? Number(v) : v)?.slice(0, 160)
      assert.fail(`${what}: got ${brief(got)}, wanted ${brief(wanted)}`)
    }
  }

  need (method) {
    if (!this.client[method]) throw new Skip(`no ${method}`)
  }

  async newTopic (name, partitions = 1, configs = {}) {
    const topic = `${prefix}.${name}`
    await this.client.createTopic(topic, partitions, configs)
    await until(async () => (await this.client.topics()).get(topic) === partitions, `${topic} in the metadata`)
    // A leader that isn't ready yet would make producers without idempotence retry, which may change the order.
    for (const p of range(0, partitions)) await until(() => this.client.watermarks(topic, p).catch(() => null), 'a leader')
    return topic
  }

  readAll (topic, count, partition = 0) {
    return this.client.read(topic, partition, 0, records => records.length >= count)
  }

  async roundTrip (name, records, codec = 'none') {
    const topic = await this.newTopic(name)
    this.same(await this.client.produce(topic, records, codec, false), range(0, records.length), 'offsets of the acknowledgements')
    const got = await this.readAll(topic, records.length)
    this.same(got.map(r => r.offset), range(0, records.length), 'offsets')
    records.forEach((r, i) => this.same(this.content(got[i]), this.content(r), `record ${i}`))
  }

  async topics () {
    const p = scenario.topics
    const topic = await this.newTopic('topics', p.partitions, p.configs)
    await assert.rejects(this.client.createTopic(topic, p.partitions, {}), TopicExists, 'creating a topic twice')
    if (this.client.configs) {
      const configs = await this.client.configs(topic)
      for (const [k, v] of Object.entries(p.configs)) this.same(configs[k], v, k)
    }
    if (this.client.addPartitions) {
      await this.client.addPartitions(topic, p.more_partitions)
      await until(async () => (await this.client.topics()).get(topic) === p.more_partitions, 'the added partitions')
    }
  }

  compression (codec) {
    return this.roundTrip(`compression-${codec}`, range(0, scenario.compression.records).map(payload), codec)
  }

  headerDuplicates () {
    const one = ['a', text(1)]
    const two = ['b', text(2)]
    const three = ['a', text(3)]
    const headers = this.traits.headersGrouped ? [one, three, one, two] : [one, two, three, one]
    headers.push(['', text('no name')])
    if (this.traits.nullHeaders) headers.push(['null', null])
    return this.roundTrip('header-duplicates', [record('v', { key: text('k'), headers }), record('v', { key: text('k') })])
  }

  headerBinaryValues () {
    const headers = [['bytes', Buffer.from(range(0, 256))], ['ü', Buffer.from([0xc3, 0x28])]]
    return this.roundTrip('header-binary-values', [record('v', { key: text('k'), headers })])
  }

  headerBinaryKeys () {
    if (!this.traits.binaryHeaderKeys) throw new Skip('header keys are strings')
    const headers = [[Buffer.from([0xff, 0xfe]), text(1)], [Buffer.from([0xc3, 0x28]), text(2)]]
    return this.roundTrip('header-binary-keys', [record('v', { key: text('k'), headers })])
  }

  nulls () {
    const kinds = [null, Buffer.alloc(0), text('x')]
    return this.roundTrip('nulls', kinds.flatMap(key => kinds.map(value => record(null, { key, value }))))
  }

  idempotence () {
    const p = scenario.idempotence
    return this.inOrder('idempotence', p.partitions, p.records / p.partitions, true)
  }

  order () {
    const p = scenario.order
    return this.inOrder('order', p.partitions, p.records_per_partition, false)
  }

  async inOrder (name, partitions, perPartition, idempotent) {
    const topic = await this.newTopic(name, partitions)
    const records = range(0, partitions * perPartition).map(i => record(i, { partition: i % partitions }))
    await this.client.produce(topic, records, 'none', idempotent)
    for (const p of range(0, partitions)) {
      const got = await this.readAll(topic, perPartition, p)
      this.same(got.map(r => r.offset), range(0, perPartition), `offsets of partition ${p}`)
      got.forEach((r, n) => this.same(String(r.value), String(n * partitions + p), `record ${n} of partition ${p}`))
      this.same(await this.client.watermarks(topic, p), [0, perPartition], `watermarks of ${p}`)
    }
  }

  async timestamps () {
    const p = scenario.timestamps
    const [n, half, base] = [p.records, p.records / 2, Date.now() - 3600_000]
    const topic = await this.newTopic('timestamps')
    const records = range(0, n).map(i => record(i, { timestamp: base + i * p.step_ms }))
    await this.client.produce(topic, records, 'none', false)
    const got = await this.readAll(topic, n)
    this.same(got.map(r => r.timestamp), records.map(r => r.timestamp), 'timestamps')
    const at = got[half].timestamp
    this.same(await this.client.offsetForTime(topic, 0, at - 5), half, 'offset for a time between two records')
    this.same(await this.client.offsetForTime(topic, 0, base - 5), 0, 'offset for a time before the first')
    this.same(await this.client.offsetForTime(topic, 0, got[n - 1].timestamp + 5), this.traits.noTimeMiss ? n : -1, 'offset for a time after the last')
    const sought = await this.client.read(topic, 0, half, r => r.length >= n - half)
    this.same([sought[0].offset, sought[0].timestamp], [half, at], 'first record after the seek')
  }

  async deleteRecords () {
    this.need('deleteRecords')
    const p = scenario['delete-records']
    const topic = await this.newTopic('delete-records')
    await this.client.produce(topic, range(0, p.records).map(i => record(i)), 'none', false)
    await this.client.deleteRecords(topic, 0, p.before)
    this.same(await this.client.watermarks(topic, 0), [p.before, p.records], 'watermarks')
    const got = await this.client.read(topic, 0, p.before, r => r.length >= p.records - p.before)
    this.same(got.map(r => r.offset), range(p.before, p.records), 'offsets left')
  }

  async deleteTopic () {
    const topic = await this.newTopic('delete-topic')
    await this.client.produce(topic, range(0, 3).map(i => record(i)), 'none', false)
    await this.client.deleteTopic(topic)
    await until(async () => !(await this.client.topics()).has(topic), 'the topic is gone')
    await until(async () => {
      try {
        await this.client.createTopic(topic, 1, {})
        return true
      } catch (error) { // the deletion may still be under way
        if (error instanceof TopicExists) return false
        throw error
      }
    }, 'the topic can be created again')
    await until(async () => (await this.client.topics()).get(topic) === 1, 'the new topic in the metadata')
    await until(() => this.client.watermarks(topic, 0).then(w => w[0] + w[1] === 0, () => false), 'the new topic is empty')
    this.same(await this.client.produce(topic, [record('new')], 'none', false), [0], 'first offset in the new topic')
  }

  // Written first, so that the broker can compact while the other cases run.
  async prepareCompacted () {
    const p = scenario.compacted
    const topic = await this.newTopic('compacted', 1, p.configs)
    const records = range(0, p.keys * p.rounds).map(i => record(i, { key: text(`k${i % p.keys}`) }))
    await this.client.produce(topic, records, 'none', false)
    for (const i of [1, 2]) {
      await sleep(500) // longer than segment.ms: the next batch rolls the segment
      await this.client.produce(topic, [record(i, { key: text('last') })], 'none', false)
    }
    this.compactedTotal = records.length + 2
  }

  async compacted () {
    const p = scenario.compacted
    const topic = `${prefix}.compacted`
    const read = from => this.client.read(topic, 0, from, r => r.at(-1).offset === this.compactedTotal - 1)
    let got
    await until(async () => (got = await read(0)).length <= p.keys + 2, 'the topic is compacted', 60)
    const offsets = got.map(r => r.offset)
    this.same(offsets, [...new Set(offsets)].sort((a, b) => a - b), 'ascending offsets')
    const latest = new Map(got.map(r => [String(r.key), String(r.value)]))
    for (const k of range(0, p.keys)) this.same(latest.get(`k${k}`), String(p.keys * (p.rounds - 1) + k), `last value of k${k}`)
    this.same((await read(Math.floor(offsets[0] / 2)))[0].offset, offsets[0], 'first record after an offset in a gap')
    this.same((await this.client.watermarks(topic, 0))[1], this.compactedTotal, 'end of the log')
  }

  async group (protocol) {
    if (this.traits.protocols[protocol]) throw new Skip(this.traits.protocols[protocol])
    const p = scenario.group
    const topic = await this.newTopic(`group-${protocol}`, p.partitions)
    const seen = [] // [member, partition, value]
    const produced = new Set()
    const members = {}
    let full = false
    let failure
    const start = async name => {
      members[name] = await this.client.member(topic, topic, protocol, records => {
        for (const r of records) seen.push([name, r.partition, String(r.value)])
      })
    }
    const feed = async () => {
      for (let n = 0; !full;) {
        const batch = range(n, n += 12).map(i => record(i, { partition: i % p.partitions }))
        await this.client.produce(topic, batch, 'none', false)
        batch.forEach(r => produced.add(String(r.value)))
        await sleep(p.interval_ms * 12)
      }
    }
    const wait = (condition, what) => until(() => {
      if (failure) throw failure
      return condition()
    }, what, 40)
    const count = (name, since = 0) => seen.slice(since).filter(s => s[0] === name).length
    let feeder
    try {
      await Promise.all([start('a'), start('b')])
      feeder = feed().catch(error => { failure = error })
      await wait(() => Math.min(count('a'), count('b')) >= p.records_each, 'two members both get records')
      await start('c')
      await wait(() => count('c') >= p.records_each, 'the third member gets records')
      await members.a()
      delete members.a
      const mark = seen.length
      await wait(() => new Set(seen.slice(mark).map(s => s[1])).size === p.partitions &&
        Math.min(count('b', mark), count('c', mark)) > 0, 'the other two take over')
      full = true
      await feeder
      await wait(() => new Set(seen.map(s => s[2])).size >= produced.size, 'every record is consumed')
    } finally {
      full = true
      await Promise.all(Object.values(members).map(leave => leave()))
    }
    const distinct = new Set(seen.map(s => s[2]))
    const lost = [...produced].filter(v => !distinct.has(v)).length
    assert.equal(lost, 0, `${lost} of ${produced.size} records lost`)
    if (!this.traits.redelivers) this.same(seen.length, distinct.size, 'records delivered, with duplicates')
    let sum = 0
    for (const n of range(0, p.partitions)) sum += await this.client.committed(topic, topic, n)
    this.same(sum, produced.size, 'sum of the committed offsets')
  }

  async commit () {
    const topic = await this.newTopic('restart')
    await this.client.produce(topic, range(0, scenario.restart.records).map(payload), 'none', false)
    await this.resume(0, scenario.restart.first)
  }

  async resume (start, count) {
    const topic = `${prefix}.restart`
    if (start) {
      // A coordinator that has just started may ask for patience, which some clients hand on as an error.
      let last
      await until(async () => {
        last = await this.client.committed(topic, topic, 0).catch(error => error.message)
        return last === start
      }, '').catch(() => this.same(last, start, 'committed offset'))
    }
    const got = await this.client.groupRead(topic, topic, count)
    this.same(got.map(r => r.offset), range(start, start + count), 'offsets')
    got.forEach((r, i) => this.same(this.content(r), this.content(payload(start + i)), `record ${start + i}`))
    this.same(await this.client.committed(topic, topic, 0), start + count, 'committed offset')
  }

  restartTerm () {
    return this.resume(scenario.restart.first, scenario.restart.second)
  }

  restartKill () {
    const start = scenario.restart.first + scenario.restart.second
    return this.resume(start, scenario.restart.records - start)
  }
}

export async function main (client, traits) {
  const cases = new Cases(client, { protocols: {}, ...traits })
  const run = async case_ => {
    const [head, tail] = [case_.split('-')[0], case_.slice(case_.indexOf('-') + 1)]
    if (head === 'compression' || head === 'group') return cases[head](tail)
    const method = case_.replace(/-./g, two => two[1].toUpperCase())
    if (cases[method]) return cases[method]()
    const { Features, transactions } = await import('./features.mjs') // it builds on what is here
    if (case_.startsWith('share')) throw new Skip('no share groups (KIP-932)')
    if (method === 'transactions') return transactions(cases, prefix)
    return new Features(cases, prefix)[method]()
  }
  const names = process.argv.slice(2)
  let prepared
  let failed = false
  if (names.includes('compacted')) await cases.prepareCompacted().catch(error => { prepared = error })
  for (const case_ of names) {
    try {
      if (case_ === 'compacted' && prepared) throw prepared
      await run(case_)
      console.log(`PASS ${name} ${case_}`)
    } catch (error) {
      if (error instanceof Skip) {
        console.log(`SKIP ${name} ${case_}: ${error.message}`)
      } else {
        failed = true
        console.error(error)
        const kind = error instanceof assert.AssertionError ? '' : `${error.name}: `
        console.log(`FAIL ${name} ${case_}: ${kind}${error.message.split('\n')[0]}`)
      }
    }
  }
  process.exit(failed ? 1 : 0)
}
