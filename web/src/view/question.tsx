// A question, in the middle of the page until it is answered.
import { useLayoutEffect, useRef } from 'preact/hooks';
import { asking, type Question } from '../asking.ts';
import { useTold } from '../state.ts';
import { Fault, useForm } from './forms.tsx';

export function QuestionView() {
  useTold(asking);
  return asking.now && <Asked question={asking.now} />;
}

function Asked({ question }: { question: Question }) {
  const dialog = useRef<HTMLDialogElement>(null);
  // The focus is at the first button then, which changes nothing.
  useLayoutEffect(() => dialog.current?.showModal(), []);
  const close = () => dialog.current?.close();
  const act = useRef(question.act);
  const { busy, said, submit } = useForm(async () => {
    await act.current();
    close();
  });
  return (
    <dialog ref={dialog} aria-labelledby="question-h" aria-describedby="question-t" onClose={() => asking.end()}>
      <form class="stack" onSubmit={submit}>
        <h2 id="question-h">{question.title}</h2>
        <p id="question-t">{question.text}</p>
        {said && <Fault>{said}</Fault>}
        <div class="row">
          <button class="btn end" type="button" onClick={close}>
            {question.no}
          </button>
          {question.other && (
            <button class="btn" type="submit" aria-busy={busy} onClick={() => (act.current = question.other!.act)}>
              {question.other.label}
            </button>
          )}
          <button class={question.other ? 'btn primary' : 'btn danger'} type="submit" aria-busy={busy} onClick={() => (act.current = question.act)}>
            {question.yes}
          </button>
        </div>
      </form>
    </dialog>
  );
}
