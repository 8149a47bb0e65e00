// What the tests of this folder share: a connection by nostr-tools to the relay that the first
// argument names.

import { after } from 'node:test'
import { finalizeEvent, generateSecretKey, getPublicKey } from 'nostr-tools/pure'
import { Relay, useWebSocketImplementation } from 'nostr-tools/relay'
import WebSocket from 'ws'

useWebSocketImplementation(WebSocket)

const open = []
// An open socket would keep the process alive, also that of a test that failed.
after(() => open.forEach(relay => relay.close()))

export const url = process.argv[2]
export const now = () => Math.floor(Date.now() / 1000)

export function person() {
  const secret = generateSecretKey()
  const sign = (kind, fields = {}) =>
    finalizeEvent({ kind, created_at: now(), tags: [], content: '', ...fields }, secret)
  return { secret, pubkey: getPublicKey(secret), sign }
}

// Connects, and authenticates as the author, if there is one.
export async function connect(author) {
  const relay = await Relay.connect(url)
  open.push(relay)
  relay.onnotice = text => {
    throw new Error(`NOTICE ${text}`)
  }
  if (author) {
    // The challenge comes first, so it is there once anything else has been answered.
    await relay.count([{ ids: [] }], {})
    await relay.auth(async template => author.sign(template.kind, template))
  }
  return relay
}

// The stored events that match; throws what CLOSED says.
export function query(relay, ...filters) {
  return new Promise((resolve, reject) => {
    const events = []
    const subscription = relay.subscribe(filters, {
      onevent: event => events.push(event),
      oninvalidevent: event => reject(new Error(`an event that does not match: ${JSON.stringify(event)}`)),
      oneose: () => {
        resolve(events)
        subscription.close()
      },
      onclose: reason => reject(new Error(reason)),
    })
  })
}

// A subscription whose events are awaited one by one.
export function subscribe(relay, ...filters) {
  const [events, waiting] = [[], []]
  let eose
  const eosed = new Promise(resolve => (eose = resolve))
  const subscription = relay.subscribe(filters, {
    onevent: event => (waiting.length > 0 ? waiting.shift()(event) : events.push(event)),
    oneose: eose,
  })
  const next = () =>
    events.length > 0 ? Promise.resolve(events.shift()) : new Promise(resolve => waiting.push(resolve))
  return { eosed, next, events, close: () => subscription.close() }
}

export const ids = events => events.map(event => event.id)
