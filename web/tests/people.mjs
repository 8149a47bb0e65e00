// People who are not at a browser: they sign events and publish them by a plain socket, as any Nostr client does.
import { schnorr } from '@noble/curves/secp256k1.js';
import { sha256 } from '@noble/hashes/sha2.js';
import WebSocket from 'ws';
import { bytesToHex, utf8ToBytes } from '@noble/hashes/utils.js';

export const now = () => Math.floor(Date.now() / 1000);

export class Person {
  secret = schnorr.utils.randomSecretKey();
  pubkey = bytesToHex(schnorr.getPublicKey(this.secret));

  sign(kind, content, tags = [], created_at = now()) {
    const id = sha256(utf8ToBytes(JSON.stringify([0, this.pubkey, created_at, kind, tags, content])));
    const sig = bytesToHex(schnorr.sign(id, this.secret));
    return { id: bytesToHex(id), pubkey: this.pubkey, created_at, kind, tags, content, sig };
  }
}

/** A plain connection to a relay. */
export class Wire {
  #answers = new Map();

  static async open(address) {
    const wire = new Wire();
    wire.socket = new WebSocket(address);
    wire.socket.onmessage = message => {
      const [verb, id, ok, said] = JSON.parse(message.data);
      if (verb === 'OK') wire.#answers.get(id)?.({ ok, said });
    };
    await new Promise((resolve, reject) => Object.assign(wire.socket, { onopen: resolve, onerror: reject }));
    return wire;
  }

  /** Publishes, and waits until it is stored. */
  async publish(event) {
    const answer = new Promise(resolve => this.#answers.set(event.id, resolve));
    this.socket.send(JSON.stringify(['EVENT', event]));
    const { ok, said } = await answer;
    if (!ok) throw new Error(`refused: ${said}`);
    return event;
  }

  /** The same; what the relay has too much to do for is published again. */
  async publishAtLast(event) {
    for (;;) {
      try {
        return await this.publish(event);
      } catch (error) {
        if (!error.message.startsWith('refused: error:')) throw error;
        await new Promise(resolve => setTimeout(resolve, 200));
      }
    }
  }

  close() {
    this.socket.close();
  }
}
