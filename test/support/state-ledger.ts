// Numbered writes into a space of the state store, and the books that say what must be found of them.

import type { StateSpace } from '../../src/core/state.ts';

const KEYS = 40;
/** So many bytes that LevelDB begins new files now and then. */
const PADDING = 'x'.repeat(20_000);

/** What a space holds: the number that each key has. */
export type Found = Readonly<Record<string, number>>;

/** A number has two keys, written in one call; each seventh is deleted by it instead. */
const keysOf = (number: number): readonly string[] => [`a${number % KEYS}`, `b${number % KEYS}`];
const isDeletion = (number: number): boolean => number % 7 === 0;

export function put(space: StateSpace, number: number): Promise<void> {
  const content = isDeletion(number) ? {} : { value: Buffer.from(`${number} ${PADDING}`) };
  return space.write(keysOf(number).map((key) => ({ key, ...content })));
}

export async function dump(space: StateSpace): Promise<Found> {
  const found: Record<string, number> = {};
  for await (const [key, value] of space.entries()) found[key] = Number.parseInt(Buffer.from(value).toString(), 10);
  return found;
}

interface Slot {
  /** What is there for certain; undefined: nothing. */
  acknowledged: number | undefined;
  /** What was begun after that and neither acknowledged nor refused: it may be there. */
  begun: (number | undefined)[];
}

export class StateLedger {
  readonly #slots = Array.from({ length: KEYS }, (): Slot => ({ acknowledged: undefined, begun: [] }));
  acknowledged = 0;

  begin(number: number): void {
    this.#slot(number).begun.push(isDeletion(number) ? undefined : number);
  }

  acknowledge(number: number): void {
    this.acknowledged += 1;
    const slot = this.#slot(number);
    slot.acknowledged = isDeletion(number) ? undefined : number;
    slot.begun = [];
  }

  /** A write that was refused is not there. */
  refuse(number: number): void {
    const slot = this.#slot(number);
    slot.begun = slot.begun.filter((begun) => begun !== (isDeletion(number) ? undefined : number));
  }

  /** What is not as it must be, in words; what is there is taken as known from now on. */
  check(found: Found): string[] {
    return this.#slots.flatMap((slot, index) => {
      const [a, b] = [found[`a${index}`], found[`b${index}`]];
      const { acknowledged, begun } = slot;
      slot.acknowledged = a;
      slot.begun = [];
      if (a !== b) return [`a${index} is ${a}, but b${index} of the same write is ${b}`];
      if (a === acknowledged || begun.includes(a)) return [];
      return [`${index} is ${a}; acknowledged: ${acknowledged}, begun: ${begun.join(', ')}`];
    });
  }

  #slot(number: number): Slot {
    const slot = this.#slots[number % KEYS];
    if (slot === undefined) throw new RangeError(`There is no slot of ${number}.`);
    return slot;
  }
}
