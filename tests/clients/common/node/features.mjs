// krocket's own features, as any Kafka client meets them: record headers, topic names, nothing else.
// The same stories as ../python/features.py.
import assert from 'node:assert/strict'
import { Skip, until } from './scenario.mjs'

const text = x => Buffer.from(String(x))
const record = (value, headers = {}, more = {}) =>
  ({ key: text('k'), value: text(value), headers: Object.entries(headers).map(([k, v]) => [k, text(v)]), partition: 0, ...more })
const values = records => records.map(r => String(r.value))

function header (r, name) {
  const found = r.headers.filter(([k]) => String(k) === name)
  assert.ok(found.length, `no header ${name}`)
  return String(found.at(-1)[1])
}

// What an operator does; the features themselves need no HTTP.
async function http (path, body) {
  const options = { method: 'POST', body: JSON.stringify(body), headers: { 'content-type': 'application/json' } }
  const response = await fetch(process.env.KROCKET_HTTP + path, options)
  assert.ok(response.ok, `${path}: ${response.status} ${await response.text()}`)
}

const refused = (promise, why) => promise.then(() => assert.fail(`accepted: ${why}`), () => {})

export class Features {
  constructor (cases, prefix) {
    if (!process.env.KROCKET_HTTP) throw new Skip('only krocket has it')
    this.cases = cases
    this.client = cases.client
    this.prefix = prefix
  }

  produce (topic, ...records) {
    return this.client.produce(topic, records, 'none', false)
  }

  same (...args) {
    this.cases.same(...args)
  }

  // Two members share a view: each record that matches arrives once, no other, and nothing is left to read.
  async viewGroup () {
    const partitions = 4
    const topic = await this.cases.newTopic('view', partitions)
    const view = `${topic}--paid--refunded`
    const tags = ['new', 'paid', 'lost||refunded', null, 'paid too']
    const records = Array.from({ length: 400 }, (_, i) =>
      record(i, tags[i % 5] ? { TAGS: tags[i % 5] } : { x: 'y' }, { partition: i % partitions }))
    const wanted = values(records.filter((_, i) => i % 5 === 1 || i % 5 === 2)).sort()
    await this.client.produce(topic, records.slice(0, 100), 'none', false)
    const seen = []
    const members = []
    const join = async () => members.push(await this.client.member(view, view, 'classic', got => seen.push(...values(got))))
    const distinct = () => new Set(seen)
    try {
      await join()
      await until(() => distinct().size === 40, 'the first member gets what is there', 30)
      await join()
      await this.client.produce(topic, records.slice(100, 250), 'gzip', false)
      await until(() => distinct().size === 100, 'records that come while the group rebalances', 30)
      await this.client.produce(topic, records.slice(250), 'none', false)
      await until(() => distinct().size >= wanted.length, 'all records that match', 30)
    } finally {
      await Promise.all(members.map(leave => leave()))
    }
    this.same([...distinct()].sort(), wanted, 'records that match')
    if (!this.cases.traits.redelivers) this.same(seen.length, wanted.length, 'records delivered')
    for (let p = 0; p < partitions; p++) {
      const [, end] = await this.client.watermarks(view, p)
      this.same(await this.client.committed(view, view, p), end, `committed offset and end of partition ${p}`)
    }
    await refused(this.produce(view, record('x')), 'a record produced to a view')
  }

  // A delayed record arrives when it is due and not before; a cancelled one never does.
  async delayCancel () {
    const topic = await this.cases.newTopic('delay')
    const began = Date.now()
    const offsets = await this.produce(topic, record('late', { TIMER_DELAY_MS: 2000, a: 'b' }), record('now', { a: 'b' }),
      record('cancelled', { TIMER_DELAY_SEC: 1, UNIQ_KEY: 'u-1' }))
    this.same(offsets, [0, 1, 2], 'offsets: a delayed record has its own')
    await this.produce(topic, record('x', { TIMER_DEL_UNIQKEY: 'u-1' }))
    this.same(await this.client.watermarks(topic, 0), [0, 2], 'watermarks: up to the last record that can be read')
    const got = await this.client.read(topic, 0, 0, r => r.length >= 2)
    this.same(values(got), ['now', 'late'], 'records')
    const after = got[1].timestamp - began
    assert.ok(after >= 2000 && after < 4000, `delivered ${after} ms after it was sent, due after 2000`)
    this.same(header(got[1], 'ORIGIN_MESSAGE_ID'), `${topic}:0:0`, 'ORIGIN_MESSAGE_ID')
    this.same(header(got[1], 'a'), 'b', "the record's own header")
    await refused(this.produce(topic, record('x', { TIMER_DEL_UNIQKEY: 'u-2' })), 'a cancel of nothing')
    await refused(this.produce(topic, record('x', { TIMER_DELAY_MS: 'soon' })), 'TIMER_DELAY_MS=soon')
  }

  // A consumer fails until the record is dead; an operator sends it back to where it came from.
  async retryDeadRedrive () {
    const group = `${this.prefix}.billing`
    const [topic, retry, dlq] = [await this.cases.newTopic('bills'), `retry.${group}`, `dlq.${group}`]
    await this.produce(topic, record('bill 7', { a: 'b' }))
    let [one] = await this.client.groupRead(group, topic, 1)
    await until(async () => (t => t.has(retry) && t.has(dlq))(await this.client.topics()), 'the topics that come with the group')
    const origin = ['ORIGIN_MESSAGE_ID', text(`${topic}:0:0`)]
    const error = why => ['ERROR', text(why)]
    let position = 0
    for (const attempt of [1, 2]) {
      const nack = attempt === 1 // the record itself, or its id
        ? { ...one, partition: 0, timestamp: undefined, headers: [...one.headers, origin, error('no money')] }
        : { ...record(''), key: Buffer.alloc(0), headers: [...one.headers.filter(([k]) => k === 'RECONSUME_TIMES'), origin, error('no money')] }
      await this.produce(retry, nack)
      one = (await this.client.read(retry, 0, position, r => r.length >= 1))[0]
      position = one.offset + 1
      this.same([String(one.key), String(one.value)], ['k', 'bill 7'], `record of attempt ${attempt}`)
      this.same(header(one, 'RECONSUME_TIMES'), String(attempt), 'RECONSUME_TIMES')
      this.same(header(one, 'ORIGIN_MESSAGE_ID'), `${topic}:0:0`, 'ORIGIN_MESSAGE_ID')
      this.same(header(one, 'REAL_TOPIC'), topic, 'REAL_TOPIC')
      this.same(header(one, 'a'), 'b', "the record's own header")
    }
    const headers = [...one.headers.filter(([k]) => k !== 'ERROR'), error('still no money')]
    await this.produce(retry, { ...one, partition: 0, timestamp: undefined, headers })
    const [dead] = await this.client.read(dlq, 0, 0, r => r.length >= 1)
    this.same([String(dead.key), String(dead.value)], ['k', 'bill 7'], 'the dead letter')
    this.same(header(dead, '__dlq.errors.topic'), topic, '__dlq.errors.topic')
    this.same(header(dead, '__dlq.errors.group'), group, '__dlq.errors.group')
    this.same(header(dead, '__dlq.errors.message'), 'still no money', '__dlq.errors.message')
    await refused(this.produce(dlq, record('x')), 'a record produced to a DLQ')
    await http(`/v1/dlq/${group}/redrive`, { all: true })
    const [again] = await this.client.read(topic, 0, 1, r => r.length >= 1)
    this.same([String(again.key), String(again.value)], ['k', 'bill 7'], 'the redriven record')
  }

  // The producer dies between its half messages and their ends; another of its group is asked and answers.
  async halfCheck () {
    const producers = `${this.prefix}.shop`
    const topic = await this.cases.newTopic('half')
    const half = { TRAN_MSG: 'true', PGROUP: producers, CHECK_IMMUNITY_TIME_IN_SECONDS: 1 }
    await this.produce(topic, record('paid', { ...half, UNIQ_KEY: 'h-1' }), record('not paid', { ...half, UNIQ_KEY: 'h-2' }),
      record('ended in time', { ...half, UNIQ_KEY: 'h-3' }))
    this.same(await this.client.watermarks(topic, 0), [0, 0], 'watermarks: half messages cannot be read')
    await this.produce(topic, record('x', { TRAN_END: 'COMMIT', UNIQ_KEY: 'h-3' }))
    let got = await this.client.read(topic, 0, 0, r => r.length >= 1)
    this.same(values(got), ['ended in time'], 'the committed one')
    const questions = `check.${producers}`
    await until(async () => (await this.client.topics()).has(questions), 'the check topic')
    const asked = await this.client.groupRead(`${producers}.checkers`, questions, 2)
    this.same(values(asked).sort(), ['not paid', 'paid'], 'half messages that are asked about')
    for (const question of asked) {
      const verdict = String(question.value) === 'paid' ? 'COMMIT' : 'ROLLBACK'
      await this.produce(topic, record('x', { TRAN_END: verdict, ORIGIN_MESSAGE_ID: header(question, 'ORIGIN_MESSAGE_ID') }))
    }
    got = await this.client.read(topic, 0, 0, r => r.length >= 2)
    this.same(values(got), ['ended in time', 'paid'], 'what consumers see')
    await refused(this.produce(topic, record('x', { TRAN_END: 'COMMIT', UNIQ_KEY: 'h-2' })), 'a commit after the rollback')
  }
}

// What is committed is seen whole, what is aborted never; offsets go with their transaction; a successor fences.
export async function transactions (cases, prefix) {
  const { client } = cases
  if (!client.transactional) throw new Skip('no transactions in this driver')
  const [topic, copy] = [await cases.newTopic('txn', 1), await cases.newTopic('txn-copy', 1)]
  const group = `${prefix}.txn-group`
  const producer = await client.transactional(`${prefix}.txn`)
  const five = name => Array.from({ length: 5 }, (_, i) => `${name}${i}`)
  for (const [name, commit] of [['a', true], ['b', false], ['c', true]]) {
    await producer.begin()
    await producer.produce(topic, five(name).map(value => record(value)))
    await producer.end(commit)
  }
  const wanted = [...five('a'), ...five('c')]
  let got = await client.readCommitted(topic, 0, wanted.length)
  cases.same(values(got), wanted, 'what is committed')
  const end = got.at(-1).offset + 1
  await producer.begin()
  await producer.produce(copy, values(got).map(value => record(value)))
  await producer.offset(group, topic, 0, end)
  await producer.end(true)
  cases.same(await client.committed(group, topic, 0), end, 'the offset of the transaction')
  const successor = await client.transactional(`${prefix}.txn`)
  const late = async () => {
    await producer.begin()
    await producer.produce(copy, [record('late')])
    await producer.end(true)
  }
  // Here a producer takes its transactional id when its first transaction begins.
  await successor.begin()
  await refused(late(), 'a producer that has a successor')
  await successor.produce(copy, [record('last')])
  await successor.end(true)
  got = await client.readCommitted(copy, 0, wanted.length + 1)
  cases.same(values(got), [...wanted, 'last'], 'the copy')
}
