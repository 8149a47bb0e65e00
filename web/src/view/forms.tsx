// Fields, as all forms have them.
import type { ComponentChildren } from 'preact';
import { useState } from 'preact/hooks';
import { explain, Problem } from '../api.ts';
import { relay } from '../app.ts';
import { self } from '../self.ts';
import { Icon } from './parts.tsx';

/** What is asked of oneself again, before something that matters. */
export const NOT_YOURS = 'This is not your password. Check it; capital letters count.';

/** The field that is at fault, by its id, and what is said there, if that is not what the relay says. */
type AtFault = { id: string; text?: string } | null;

/**
 * A form that the script sends: once at a time, and what went wrong is said until it is sent again, at the field that is
 * at fault, or below the form.
 */
export function useForm(send: () => Promise<void>, at: (problem: Problem) => AtFault = () => null) {
  const [busy, setBusy] = useState(false);
  const [fault, setFault] = useState<unknown>(null);
  const field = fault instanceof Problem ? at(fault) : null;
  const text = fault ? explain(fault, relay.name) : '';
  const submit = async (event: Event) => {
    event.preventDefault();
    if (busy) return;
    setBusy(true);
    setFault(null);
    try {
      await send();
    } catch (error) {
      self.ended(error);
      setFault(error);
      const field = error instanceof Problem ? at(error) : null;
      if (field) document.getElementById(field.id)?.focus();
    }
    setBusy(false);
  };
  return {
    busy,
    submit,
    problem: fault instanceof Problem ? fault : null,
    /** It is being changed: what was said of it holds no more. */
    forget: () => setFault(null),
    /** What is said below the form. */
    said: field ? '' : text,
    errorAt: (id: string): string | undefined => (field?.id === id ? (field.text ?? text) : undefined),
  };
}

/** What was typed into a field before the script was there. */
export const typed = (id: string): string => {
  const field = document.getElementById(id);
  return field instanceof HTMLInputElement || field instanceof HTMLTextAreaElement ? field.value : '';
};

interface FieldProps {
  id: string;
  label: string;
  value: string;
  change: (value: string) => void;
  leave?: () => void;
  error?: string | undefined;
  help?: ComponentChildren;
  complete?: string;
}

export function Fault({ id, children }: { id?: string; children: ComponentChildren }) {
  return (
    <p class="err" id={id} role="alert">
      <Icon name="warn" />
      <span>{children}</span>
    </p>
  );
}

function Below({ id, error, help }: { id: string; error: string | undefined; help: ComponentChildren }) {
  if (error) return <Fault id={`${id}-h`}>{error}</Fault>;
  return help ? (
    <p class="help" id={`${id}-h`}>
      {help}
    </p>
  ) : null;
}

export function NameField({ id, label, value, change, leave, error, help, complete = 'username' }: FieldProps) {
  return (
    <div class="field">
      <label for={id}>{label}</label>
      <div class={`affix ${error ? 'bad' : ''}`}>
        <input
          class="input"
          id={id}
          name="username"
          value={value}
          autocomplete={complete}
          autocapitalize="none"
          spellcheck={false}
          required
          aria-invalid={!!error}
          aria-describedby={error || help ? `${id}-h` : undefined}
          onInput={event => change(event.currentTarget.value)}
          onBlur={leave}
        />
        <span>@{relay.host}</span>
      </div>
      <Below id={id} error={error} help={help} />
    </div>
  );
}

export function PasswordField({ id, label, value, change, leave, error, help, complete = 'current-password' }: FieldProps) {
  const [shown, setShown] = useState(false);
  return (
    <div class="field">
      <label for={id}>{label}</label>
      <div class="with-btn">
        <input
          class="input"
          id={id}
          name="password"
          type={(shown ? 'text' : 'password') as 'password'}
          value={value}
          autocomplete={complete}
          required
          aria-invalid={!!error}
          aria-describedby={error || help ? `${id}-h` : undefined}
          onInput={event => change(event.currentTarget.value)}
          onBlur={leave}
        />
        <button class="btn quiet" type="button" aria-pressed={shown} aria-label="Show password" onClick={() => setShown(!shown)}>
          {shown ? 'Hide' : 'Show'}
        </button>
      </div>
      <Below id={id} error={error} help={help} />
    </div>
  );
}

export function Choice<T extends string>({ name, value, chosen, choose, title, children }: { name: string; value: T; chosen: T; choose: (value: T) => void; title: string; children: ComponentChildren }) {
  return (
    <label class="choice">
      <input type="radio" name={name} value={value} checked={chosen === value} onChange={() => choose(value)} />
      <b>{title}</b>
      <span>{children}</span>
    </label>
  );
}
