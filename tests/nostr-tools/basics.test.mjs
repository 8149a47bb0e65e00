// NIP-01, 02, 09, 11, 45, 62 and 65 by nostr-tools.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { fetchRelayInformation } from 'nostr-tools/nip11'
import { connect, ids, now, person, query, subscribe, url } from './client.mjs'

test('stored events come newest first, ties by lowest id', async () => {
  const [relay, author] = [await connect(), person()]
  const start = now() - 100
  const events = Array.from({ length: 20 }, (_, n) =>
    author.sign(1, { created_at: start + Math.floor(n / 4), tags: [['t', 'nostr-tools']], content: `${n} 🤙 "\n` }),
  )
  assert.deepEqual(await Promise.all(events.map(event => relay.publish(event))), events.map(() => ''))
  events.sort((a, b) => b.created_at - a.created_at || (a.id < b.id ? -1 : 1))
  for (const filter of [
    { authors: [author.pubkey] },
    { '#t': ['nostr-tools'], kinds: [1] },
    { ids: ids(events) },
    { since: start, until: start + 4, authors: [author.pubkey] },
  ]) {
    assert.deepEqual(ids(await query(relay, filter)), ids(events))
    assert.equal(await relay.count([filter], {}), 20)
  }
  assert.deepEqual(ids(await query(relay, { authors: [author.pubkey], limit: 4 })), ids(events).slice(0, 4))
  assert.match(await relay.publish(events[0]), /^duplicate: /)
  await assert.rejects(relay.publish({ ...author.sign(1), content: 'forged' }), /^Error: invalid: /)
})

test('live events come once to each subscription', async () => {
  const [relay, reader, author] = [await connect(), await connect(), person()]
  const all = subscribe(reader, { authors: [author.pubkey] })
  const ephemeral = subscribe(reader, { kinds: [20005], limit: 0 }, { kinds: [20005], authors: [author.pubkey] })
  await Promise.all([all.eosed, ephemeral.eosed])
  const events = [author.sign(1), author.sign(20005), author.sign(7)]
  for (const event of events) await relay.publish(event)
  for (const event of events) assert.equal((await all.next()).id, event.id)
  assert.equal((await ephemeral.next()).id, events[1].id)
  assert.deepEqual(ids(await query(reader, { authors: [author.pubkey] })).sort(), ids([events[0], events[2]]).sort())
  assert.equal(all.events.length + ephemeral.events.length, 0)
})

test('lists and articles are replaced', async () => {
  const [relay, author] = [await connect(), person()]
  for (const kind of [0, 3, 10002, 30023]) {
    const tags = kind === 30023 ? [['d', 'x']] : []
    const [old, latest] = [now() - 1, now()].map(created_at => author.sign(kind, { created_at, tags }))
    await relay.publish(old)
    await relay.publish(latest)
    assert.deepEqual(ids(await query(relay, { kinds: [kind], authors: [author.pubkey] })), [latest.id])
    await assert.rejects(relay.publish(old), /^Error: duplicate: /)
  }
})

test('authors delete and vanish', async () => {
  const [relay, author] = [await connect(), person()]
  const [gone, kept] = [author.sign(1, { content: 'gone' }), author.sign(1, { content: 'kept' })]
  await relay.publish(gone)
  await relay.publish(kept)
  await relay.publish(author.sign(5, { tags: [['e', gone.id]] }))
  assert.deepEqual(ids(await query(relay, { kinds: [1], authors: [author.pubkey] })), [kept.id])
  await assert.rejects(relay.publish(gone), /^Error: blocked: /)
  const vanish = author.sign(62, { created_at: now() + 1, tags: [['relay', 'ALL_RELAYS']] })
  await relay.publish(vanish)
  assert.deepEqual(ids(await query(relay, { authors: [author.pubkey] })), [vanish.id])
  await assert.rejects(relay.publish(kept), /^Error: blocked: /)
})

test('counts bring HyperLogLog registers', async () => {
  const [relay, target] = [await connect(), person()]
  for (let n = 0; n < 10; n++) await relay.publish(person().sign(3, { tags: [['p', target.pubkey]] }))
  const { count, hll } = await relay.countWithHLL([{ kinds: [3], '#p': [target.pubkey] }], {})
  assert.equal(count, 10)
  assert.match(hll, /^[0-9a-f]{512}$/)
  // One author, one register of at least 1.
  const registers = hll.match(/../g).filter(register => register !== '00')
  assert.ok(registers.length > 0 && registers.length <= 10)
})

test('the information document is read', async () => {
  const information = await fetchRelayInformation(url)
  assert.ok(information.supported_nips.includes(1))
  assert.equal(information.limitation.max_subid_length, 64)
})
