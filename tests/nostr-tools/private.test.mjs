// NIP-17, 40, 42, 59 and 70 by nostr-tools.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import * as nip17 from 'nostr-tools/nip17'
import { connect, ids, now, person, query, subscribe } from './client.mjs'

test('a private message is for its recipient', async () => {
  const [alice, bob, carol] = [person(), person(), person()]
  const [outside, inbox, stranger] = [await connect(), await connect(bob), await connect(carol)]
  const wrap = nip17.wrapEvent(alice.secret, { publicKey: bob.pubkey }, 'hello bob')
  const live = subscribe(inbox, { kinds: [1059], '#p': [bob.pubkey] })
  const hidden = subscribe(stranger, { ids: [wrap.id] })
  await Promise.all([live.eosed, hidden.eosed])
  await outside.publish(wrap)
  const received = await live.next()
  assert.equal(received.id, wrap.id)
  const message = nip17.unwrapEvent(received, bob.secret)
  assert.deepEqual([message.pubkey, message.content], [alice.pubkey, 'hello bob'])
  const filter = { kinds: [1059], '#p': [bob.pubkey] }
  assert.deepEqual(ids(await query(inbox, filter)), [wrap.id])
  await assert.rejects(query(outside, filter), /^Error: auth-required: /)
  await assert.rejects(query(stranger, filter), /^Error: restricted: /)
  await assert.rejects(outside.count([filter], {}), /^Error: auth-required: /)
  for (const relay of [outside, stranger]) {
    assert.deepEqual(await query(relay, { ids: [wrap.id] }), [])
    assert.equal(await relay.count([{ ids: [wrap.id] }], {}), 0)
  }
  assert.equal(hidden.events.length, 0)
})

test('a protected event is published by its author', async () => {
  const [author, other] = [person(), person()]
  const event = author.sign(1, { tags: [['-']] })
  const [nobody, stranger, own] = [await connect(), await connect(other), await connect(author)]
  await assert.rejects(nobody.publish(event), /^Error: auth-required: /)
  await assert.rejects(stranger.publish(event), /^Error: restricted: /)
  assert.equal(await own.publish(event), '')
  assert.deepEqual(ids(await query(nobody, { ids: [event.id] })), [event.id])
  const repost = other.sign(6, { tags: [['e', event.id]], content: JSON.stringify(event) })
  await assert.rejects(stranger.publish(repost), /^Error: blocked: /)
})

test('an expired event is refused', async () => {
  const [relay, author] = [await connect(), person()]
  const expiring = at => author.sign(1, { tags: [['expiration', String(at)]] })
  await assert.rejects(relay.publish(expiring(now() - 1)), /^Error: invalid: /)
  assert.equal(await relay.publish(expiring(now() + 3600)), '')
  await assert.rejects(relay.publish(author.sign(1, { created_at: now() + 3600 })), /^Error: invalid: /)
})
