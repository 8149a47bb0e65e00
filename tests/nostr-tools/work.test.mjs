// NIP-13 by nostr-tools, against a relay that asks for 8 bits.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { getPow, minePow } from 'nostr-tools/nip13'
import { connect, now, person } from './client.mjs'

test('only mined events are taken', async () => {
  const [relay, author] = [await connect(), person()]
  const template = { kind: 1, created_at: now(), tags: [], content: 'mined', pubkey: author.pubkey }
  const { created_at, tags } = minePow(template, 8)
  assert.equal(await relay.publish(author.sign(1, { created_at, tags, content: 'mined' })), '')
  let lazy = author.sign(1)
  for (let n = 0; getPow(lazy.id) >= 8; n++) lazy = author.sign(1, { content: String(n) })
  await assert.rejects(relay.publish(lazy), /^Error: pow: /)
})
