// PUBACKs in the order of their messages, whatever is done first (MQTT 3.1.1, 4.6).

/** Messages that are acknowledged together, and their place in the order. */
export interface Place {
  /** 0: QoS 0, which is not acknowledged. */
  readonly messageIds: readonly number[];
  /** What it keeps of the client's room until it is done. */
  readonly bytes: number;
}

interface Entry extends Place {
  isDone: boolean;
}

export class Acknowledgements {
  readonly #send: (messageIds: readonly number[]) => void;
  /** Oldest first. */
  readonly #entries: Entry[] = [];
  #bytes = 0;

  constructor(send: (messageIds: readonly number[]) => void) {
    this.#send = send;
  }

  /** Of what is not done yet. */
  get bytes(): number {
    return this.#bytes;
  }

  begin(messageIds: readonly number[], bytes: number): Place {
    const entry: Entry = { messageIds, bytes, isDone: false };
    this.#entries.push(entry);
    this.#bytes += bytes;
    return entry;
  }

  /** A place for each of its messages instead. */
  split(place: Place): readonly Place[] {
    const parts = place.messageIds.map((messageId, index): Entry => {
      return { messageIds: [messageId], bytes: index === 0 ? place.bytes : 0, isDone: false };
    });
    this.#entries.splice(this.#entries.indexOf(place as Entry), 1, ...parts);
    return parts;
  }

  /** What it promises holds. */
  done(place: Place): void {
    (place as Entry).isDone = true;
    if (this.#entries[0] !== place) return;
    const waiting = this.#entries.findIndex(({ isDone }) => !isDone);
    const done = this.#entries.splice(0, waiting < 0 ? this.#entries.length : waiting);
    for (const { bytes } of done) this.#bytes -= bytes;
    const ids = done.flatMap(({ messageIds }) => messageIds.filter((id) => id !== 0));
    if (ids.length > 0) this.#send(ids);
  }
}
