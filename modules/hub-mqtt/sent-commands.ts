// Cloud-to-device messages that a client has not acknowledged yet, by the packet identifiers that they were sent with. Who
// connects again gets them once more under the same identifiers (MQTT 3.1.1, 4.4).

import { LIMITS } from '#sdk';

const LAST_ID = 0xffff;

export interface SentCommand {
  readonly sequenceNumber: number;
  readonly lockToken: string;
}

/** What a session leaves to the next one of the same client. */
export type LeftIds = ReadonlyMap<number, number>;

export class SentCommands {
  readonly #byId = new Map<number, SentCommand>();
  /** Identifiers by sequence number: of this session, and of an earlier one until they are sent again. */
  readonly #ids: Map<number, number>;
  #last: number;

  constructor(left: LeftIds = new Map()) {
    // Some of them may have expired meanwhile, and are never sent again.
    this.#ids = new Map([...left].slice(-LIMITS.hub_device_commands));
    this.#last = Math.max(0, ...this.#ids.values());
  }

  /** The identifier of a message, whether it was sent before, and whether that was on this connection. */
  add(command: SentCommand): { readonly messageId: number; readonly dup: boolean; readonly isHeld: boolean } {
    const known = this.#ids.get(command.sequenceNumber);
    const messageId = known ?? this.#nextId();
    const isHeld = this.#byId.has(messageId);
    this.#ids.set(command.sequenceNumber, messageId);
    this.#byId.set(messageId, command);
    return { messageId, dup: known !== undefined, isHeld };
  }

  /** The message that a PUBACK is for. */
  take(messageId: number): SentCommand | undefined {
    const command = this.#byId.get(messageId);
    if (command === undefined) return undefined;
    this.#byId.delete(messageId);
    this.#ids.delete(command.sequenceNumber);
    return command;
  }

  /** One that is not in use. */
  #nextId(): number {
    do this.#last = this.#last >= LAST_ID ? 1 : this.#last + 1;
    while (this.#isUsed(this.#last));
    return this.#last;
  }

  #isUsed(messageId: number): boolean {
    for (const used of this.#ids.values()) if (used === messageId) return true;
    return false;
  }

  get left(): LeftIds {
    return this.#ids;
  }
}
