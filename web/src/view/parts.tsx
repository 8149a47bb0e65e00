// Small things that all screens are made of.
import type { ComponentChildren } from 'preact';
import { note, npub } from '../nostr.ts';
import { people } from '../app.ts';
import { useTold } from '../state.ts';
import { ticks } from '../ticks.ts';
import { ago, whole } from '../words.ts';

export function Icon({ name, plain }: { name: string; plain?: boolean }) {
  return (
    <svg class={plain ? '' : 'i'} aria-hidden="true">
      <use href={`#i-${name}`} />
    </svg>
  );
}

export function Egg({ of, size }: { of: string; size?: 'sm' | 'lg' }) {
  return (
    <span class={`egg ${size ?? ''}`}>
      <img src={`/eggs/${of}.svg`} alt="" width="40" height="40" />
    </span>
  );
}

export function Who({ of }: { of: string }) {
  return (
    <a class="who" dir="auto" href={`/${npub(of)}`}>
      {people.name(of)}
    </a>
  );
}

export function When({ id, at, post }: { id?: string; at: number; post?: string }) {
  useTold(ticks);
  // Put in anew and not changed: whatever its width, nothing has moved then.
  const text = ago(at, ticks.now);
  const shown = <span key={text}>{text}</span>;
  return (
    <time id={id} datetime={new Date(at * 1000).toISOString()}>
      {post ? (
        <a href={`/${note(post)}`} title={whole(at)}>
          {shown}
        </a>
      ) : (
        shown
      )}
    </time>
  );
}

/** What went wrong, or is worth to know, where it happened. */
export function Note({ kind, title, children }: { kind?: 'warn' | 'bad'; title: string; children?: ComponentChildren }) {
  return (
    <div class={`note ${kind ?? ''}`}>
      <Icon name={kind ? 'warn' : 'info'} />
      <b>{title}</b>
      {children}
    </div>
  );
}

/** A menu: one is open at a time, and Escape gives the focus back. */
export function Menu({ label, summary, wide, children }: { label?: string; summary: ComponentChildren; wide?: string; children: ComponentChildren }) {
  return (
    <details class="menu" name="menu">
      <summary class={wide ?? 'btn icon'} aria-label={label}>
        {summary}
      </summary>
      <div class="sheet stack">{children}</div>
    </details>
  );
}
