// Answers that must come in the order of what they answer: PUBACK and PUBREC of one client (MQTT 3.1.1, 4.6.0-2 and 4.6.0-3).
// A message that is retained takes longer than one that nobody waits for.

interface Place {
  answer?: () => void;
}

export class AnswerOrder {
  /** Not answered yet, oldest first. */
  readonly #places: Place[] = [];

  /** Takes the next place. What it returns is called once, with the answer, which is given when all before it were. */
  begin(): (answer: () => void) => void {
    const place: Place = {};
    this.#places.push(place);
    return (answer) => {
      place.answer = answer;
      while (this.#places[0]?.answer !== undefined) this.#places.shift()?.answer?.();
    };
  }
}
