// Where a post is written. What is being written is kept, whatever happens to the page.
import { useEffect, useRef, useState } from 'preact/hooks';
import { line } from '../app.ts';
import { asking } from '../asking.ts';
import { drafts, type Draft } from '../drafts.ts';
import { NOTE, warning } from '../nostr.ts';
import { outbox, type Pending } from '../outbox.ts';
import { say } from '../say.ts';
import { self } from '../self.ts';
import { useTold } from '../state.ts';
import { people } from '../app.ts';
import { typed } from './forms.tsx';
import { Content } from './post.tsx';
import { Egg, Icon, When, Who } from './parts.tsx';

/** What a post may be long; the count shows below a hundred left. */
const MOST = 20_000;

interface ComposerProps {
  /** What the draft is kept under: the post that is answered, or none. */
  about?: string;
  label?: string;
  placeholder?: string;
  tags?: string[][];
  top?: boolean;
  /** Whether somebody came here to write. */
  autofocus?: boolean;
}

export function Composer({ about = 'home', label = 'Write a post', placeholder = 'What is going on?', tags = [], top, autofocus }: ComposerProps) {
  useTold(line, self);
  const account = self.me!.userId;
  const id = `compose-${about}`;
  const [{ text, reason }, setDraft] = useState<Draft>(() => {
    const kept = drafts.of(account, about);
    return kept.text ? kept : { ...kept, text: typed(id) };
  });
  useTold(drafts);
  const putBack = useRef(drafts.changes);
  useEffect(() => {
    if (putBack.current === drafts.changes) return;
    putBack.current = drafts.changes;
    setDraft(drafts.of(account, about));
  });
  useEffect(() => {
    if (autofocus) document.getElementById(id)?.focus();
  }, []);
  const left = MOST - text.length;
  const write = (draft: Draft) => {
    setDraft(draft);
    drafts.keep(account, about, draft);
  };
  const send = () => {
    const content = text.trim();
    if (!content || left < 0) return document.getElementById(id)?.focus();
    outbox.post(content, [...tags, ...(reason !== null ? [['content-warning', reason.trim()]] : [])], NOTE, about);
    write({ text: '', reason: null });
    say(line.state === 'live' ? 'Sending' : 'Waiting to be sent');
  };
  return (
    <form
      class={`item composer ${top ? 'top-of' : ''}`}
      aria-label={label}
      method="post"
      onSubmit={event => {
        event.preventDefault();
        send();
      }}
      onKeyDown={event => {
        if (event.key === 'Enter' && (event.ctrlKey || event.metaKey)) {
          event.preventDefault();
          send();
        }
      }}
    >
      <Egg of={account} />
      <div class="body">
        <div class="box">
          {reason !== null && (
            <input
              class="reason"
              aria-label="What the content warning says"
              placeholder="What is it about? Readers see this first."
              value={reason}
              onInput={event => write({ text, reason: event.currentTarget.value })}
            />
          )}
          <label class="vh" for={id}>
            {label}
          </label>
          <textarea
            id={id}
            rows={1}
            placeholder={line.state === 'live' ? placeholder : `${placeholder} It is sent when the line is back.`}
            value={text}
            onInput={event => write({ text: event.currentTarget.value, reason })}
          />
          <div class="tools">
            <button
              class="btn icon"
              type="button"
              aria-pressed={reason !== null}
              aria-label="Content warning"
              title="Content warning"
              onClick={() => write({ text, reason: reason === null ? '' : null })}
            >
              <Icon name="eye" />
            </button>
            <p>
              Public<span class="only-wide">. Anyone can copy it. Pictures: paste a link.</span>
            </p>
            {left < 100 && <span class="num small end">{left}</span>}
            <button class={`btn primary ${left < 100 ? '' : 'end'}`} type="submit">
              Post
            </button>
          </div>
        </div>
      </div>
    </form>
  );
}

/** Posts on their way, on the branch above all others; of a thread, the answers that were written there. */
export function Waiting({ about = 'home' }: { about?: string }) {
  useTold(outbox, line, people);
  const waiting = outbox.pending.filter(one => one.event.kind === NOTE && one.about === about);
  return (
    <>
      {waiting.map(one => (
        <Unsent key={one.id} pending={one} />
      ))}
    </>
  );
}

function Unsent({ pending }: { pending: Pending }) {
  // Most go in a moment: a wait is worth a word when it is one.
  const [late, setLate] = useState(false);
  useEffect(() => {
    const timer = setTimeout(() => setLate(true), 300);
    return () => clearTimeout(timer);
  }, []);
  const failed = pending.state === 'failed';
  const { about, event } = pending;
  const isWriting = drafts.of(event.pubkey, about).text !== '';
  const putBack = () => {
    outbox.cancel(pending);
    drafts.putBack(event.pubkey, about, { text: event.content, reason: warning(event) });
    document.getElementById(`compose-${about}`)?.focus();
  };
  const edit = (from: HTMLElement) => {
    if (!isWriting) return putBack();
    asking.ask(from, {
      title: 'Replace what you are writing?',
      text: 'This post goes to where you are writing another one.',
      yes: 'Replace it',
      no: 'Leave both',
      act: async () => putBack(),
    });
  };
  return (
    <article class="item offline pending" tabindex={0} aria-label={failed ? 'Not sent' : 'Waiting to be sent'}>
      <Egg of={pending.event.pubkey} />
      <div class="body">
        <p class="line1">
          <Who of={pending.event.pubkey} />
        </p>
        <Content event={{ ...pending.event, id: pending.id, sig: '' }} whole={false} />
        <div class={`state ${failed ? 'bad' : ''}`}>
          {(late || failed) && <Icon name={failed ? 'warn' : 'clock'} />}
          {failed ? `Not sent: ${pending.why}.` : late ? (pending.state === 'sending' ? 'Sending' : 'Waiting to be sent') : ''}
          {failed && (
            <button class="btn quiet end" type="button" onClick={press => edit(press.currentTarget)}>
              Edit
            </button>
          )}
          {failed && (
            <button class="btn" type="button" onClick={() => outbox.send(pending)}>
              Send again
            </button>
          )}
          {!failed && late && pending.state === 'waiting' && (
            <button class="btn quiet end" type="button" onClick={press => edit(press.currentTarget)}>
              Cancel
            </button>
          )}
        </div>
      </div>
      <When at={pending.event.created_at} />
    </article>
  );
}
