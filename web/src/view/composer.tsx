// Where a post is written. What is being written is kept, whatever happens to the page.
import { useEffect, useState } from 'preact/hooks';
import { line } from '../app.ts';
import { draft, keep } from '../drafts.ts';
import { outbox, type Pending } from '../outbox.ts';
import { say } from '../say.ts';
import { self } from '../self.ts';
import { useTold } from '../state.ts';
import { people } from '../app.ts';
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
  const [text, setText] = useState(() => draft(account, about));
  const [warned, setWarned] = useState(false);
  const [reason, setReason] = useState('');
  const id = `compose-${about}`;
  useEffect(() => {
    if (autofocus) document.getElementById(id)?.focus();
  }, []);
  const left = MOST - text.length;
  const write = (text: string) => {
    setText(text);
    keep(account, about, text);
  };
  const send = () => {
    const content = text.trim();
    if (!content || left < 0) return document.getElementById(id)?.focus();
    outbox.post(content, [...tags, ...(warned ? [['content-warning', reason.trim()]] : [])]);
    write('');
    setWarned(false);
    setReason('');
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
          {warned && (
            <input
              class="reason"
              aria-label="What the content warning says"
              placeholder="What is it about? Readers see this first."
              value={reason}
              onInput={event => setReason(event.currentTarget.value)}
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
            onInput={event => write(event.currentTarget.value)}
          />
          <div class="tools">
            <button
              class="btn icon"
              type="button"
              aria-pressed={warned}
              aria-label="Content warning"
              title="Content warning"
              onClick={() => setWarned(!warned)}
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

/** Posts on their way, on the branch above all others. */
export function Waiting() {
  useTold(outbox, line, people);
  if (outbox.pending.length === 0) return null;
  return (
    <>
      {outbox.pending.filter(one => one.event.kind === 1).map(one => (
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
  const edit = () => {
    outbox.cancel(pending);
    const field = document.querySelector<HTMLTextAreaElement>('.composer textarea');
    if (!field) return;
    field.value = pending.event.content;
    field.dispatchEvent(new Event('input', { bubbles: true }));
    field.focus();
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
            <button class="btn quiet end" type="button" onClick={edit}>
              Edit
            </button>
          )}
          {failed && (
            <button class="btn" type="button" onClick={() => outbox.send(pending)}>
              Send again
            </button>
          )}
          {!failed && late && pending.state === 'waiting' && (
            <button class="btn quiet end" type="button" onClick={edit}>
              Cancel
            </button>
          )}
        </div>
      </div>
      <When at={pending.event.created_at} />
    </article>
  );
}
