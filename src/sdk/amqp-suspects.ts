// Which messages may have made the peer end their link: it names none. Those that were under way go one at a time from then on, so
// that what is wrong with one of them holds up no other, and is known of it.

import type { LaneBatch, LaneEntry } from './amqp-lane-queue.ts';

export class LaneSuspects {
  readonly #max: number;
  /** Message ids, the oldest first. */
  readonly #ids = new Set<string>();

  /** @param max of them; those that never come again make room. */
  constructor(max: number) {
    this.#max = max;
  }

  /** Whether it goes by itself: nothing else is under way with it. */
  has({ messageId }: LaneEntry): boolean {
    return messageId !== undefined && this.#ids.has(messageId);
  }

  /** The link has ended with these under way. */
  add(entries: readonly (LaneEntry | LaneBatch)[]): void {
    for (const { messageId } of entries.flatMap(messagesOf)) if (messageId !== undefined) this.#ids.add(messageId);
    for (const id of this.#ids) {
      if (this.#ids.size <= this.#max) return;
      this.#ids.delete(id);
    }
  }

  /** The peer has answered, and the link is there. */
  clear(entry: LaneEntry | LaneBatch): void {
    if (this.#ids.size === 0) return;
    for (const { messageId } of messagesOf(entry)) if (messageId !== undefined) this.#ids.delete(messageId);
  }
}

/** What it is made of. */
export function messagesOf(entry: LaneEntry | LaneBatch): readonly LaneEntry[] {
  return 'members' in entry ? entry.members : [entry];
}
