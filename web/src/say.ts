// What a screen reader is told: counts and outcomes, never posts.
const line = document.getElementById('say')!;

export function say(text: string): void {
  // The same again is said again.
  line.textContent = line.textContent === text ? `${text}\u00a0` : text;
}
