// What the hub sends to a device, and what became of it, whatever the protocol.

import type { CommandMessage } from '#sdk';

/** The longest that a message without an expiry waits: the hub's own default. */
export const MESSAGE_LIFE_MS = 3_600_000;

/** A cloud-to-device message. */
export interface CloudMessage {
  readonly messageId: string | undefined;
  /** Until when it holds, by the hub's clock; undefined: for as long as it waits there. */
  readonly expiresAtMs: number | undefined;
  /** How often the hub had it given back; undefined: it cannot be given back. */
  readonly deliveryCount?: number;
  /** An application property. */
  readonly property: (name: string) => string | undefined;
  readonly body: Uint8Array;
  /** All of it, for a device that takes it as it is. */
  readonly content: () => CommandMessage;
}

export interface HubMethodAnswer {
  readonly status: number;
  /** JSON. */
  readonly body: Uint8Array;
}

/**
 * What became of a message: carried out by the device; refused by it, no command, or expired; or, where it can be given back, still
 * to be done.
 */
export type CloudMessageOutcome = 'done' | 'refused' | 'waiting';
