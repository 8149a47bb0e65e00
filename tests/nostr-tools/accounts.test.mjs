// What people with an account at the relay say, as nostr-tools reads it: NIP-01, 02, 05, 09, 10 and 19.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { queryProfile, useFetchImplementation } from 'nostr-tools/nip05'
import { parse } from 'nostr-tools/nip10'
import { decode } from 'nostr-tools/nip19'
import { connect, ids, query, subscribe, url } from './client.mjs'

const address = url.replace(/^ws/, 'http')

// Asks by REST, and expects that it is done.
async function ask(person, method, path, body) {
  const headers = { 'content-type': 'application/json' }
  if (person) headers.authorization = `Bearer ${person.token}`
  const answer = await fetch(`${address}/v1${path}`, { method, headers, body: body && JSON.stringify(body) })
  const text = await answer.text()
  assert.ok(answer.ok, `${method} ${path}: ${answer.status} ${text}`)
  return text && JSON.parse(text)
}

const signUp = username => ask(null, 'POST', '/auth/sign-up', { username, password: 'three rooks on a wire' })
const say = async (person, content, tags = []) => (await ask(person, 'POST', '/posts', { content, tags })).event

test('people with an account are Nostr users like all others', async () => {
  const [quill, rook, relay] = [await signUp('quill'), await signUp('rook'), await connect()]
  const live = subscribe(relay, { authors: [quill.userId, rook.userId], kinds: [1, 5] })
  await live.eosed
  const first = await say(quill, 'hello 🤙 "\n', [['t', 'rooks']])
  const reply = await say(rook, 'hello yourself', [['e', first.id, '', 'root', quill.userId], ['p', quill.userId]])
  for (const event of [first, reply]) assert.equal((await live.next()).id, event.id)

  // Ids and signatures are checked by nostr-tools, of whatever it is sent.
  const [found] = await query(relay, { authors: [quill.userId], kinds: [1] })
  assert.deepEqual([found.id, found.content, found.tags], [first.id, 'hello 🤙 "\n', [['t', 'rooks']]])
  assert.deepEqual(ids(await query(relay, { '#t': ['rooks'] })), [first.id])
  const [answer] = await query(relay, { '#e': [first.id], '#p': [quill.userId], kinds: [1] })
  assert.deepEqual([answer.id, parse(answer).root.id], [reply.id, first.id])

  await ask(quill, 'PUT', '/profile', { name: 'Quill', about: 'writes' })
  const [profile] = await query(relay, { authors: [quill.userId], kinds: [0] })
  const { name, about } = JSON.parse(profile.content)
  assert.deepEqual([name, about], ['Quill', 'writes'])
  await ask(quill, 'POST', '/friends/rook')
  const [list] = await query(relay, { authors: [quill.userId], kinds: [3] })
  assert.deepEqual(list.tags.filter(tag => tag[0] === 'p').map(tag => tag[1]), [rook.userId])

  assert.deepEqual(decode(quill.npub), { type: 'npub', data: quill.userId })
  // It asks by HTTPS, and knows no ports.
  useFetchImplementation(asked => fetch(String(asked).replace(/^https:\/\/[^/]*/, address)))
  assert.equal((await queryProfile('quill@127.0.0.1')).pubkey, quill.userId)

  await ask(quill, 'DELETE', `/posts/${first.id}`)
  const deletion = await live.next()
  assert.deepEqual([deletion.kind, deletion.tags.find(tag => tag[0] === 'e')[1]], [5, first.id])
  assert.deepEqual(await query(relay, { authors: [quill.userId], kinds: [1] }), [])
})
