// What the broker keeps for its clients: retained messages, wills, sessions and the messages that wait for absent
// subscribers. In memory for speed, in the state store for restarts.
//
// Invariants
// - What a method promises is synced before its promise settles, so SUBACK and PUBACK come after it.
// - Every table is bounded (LIMITS.mqtt_…); what does not fit is refused and counted, and never costs the rest.

import { KeptSessions } from './kept-sessions.ts';
import type { KeptState } from './kept-state.ts';
import { KeptWills } from './kept-wills.ts';
import { RetainedMessages } from './retained-messages.ts';

export class BrokerStore {
  readonly sessions: KeptSessions;
  readonly retained: RetainedMessages;
  readonly wills: KeptWills;

  constructor({ isConnected, ...kept }: KeptState & { readonly isConnected: (clientId: string) => boolean }) {
    this.sessions = new KeptSessions(kept, isConnected);
    this.retained = new RetainedMessages(kept);
    this.wills = new KeptWills(kept);
  }

  /** Reads what was kept. What cannot be read is left out and counted. @throws GatewayError GW_STORE_CLOSED. */
  async load(): Promise<void> {
    await this.sessions.load();
    await this.retained.load();
    await this.wills.load();
  }
}
