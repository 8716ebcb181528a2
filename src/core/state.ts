// Contract of what is kept besides the messages: retained messages, sessions, records of commands, later twins and
// identities. Its store opens, fails and is salvaged apart from the log's (design, section 5).

/** One change; without a value the key goes. */
export interface StateChange {
  /** 1 to 512 bytes of UTF-8. */
  readonly key: string;
  readonly value?: Uint8Array;
}

/** A named part of the state store, for one owner; owners do not see each other's keys. */
export interface StateSpace {
  /** @throws GatewayError GW_STORE_CLOSED, GW_STORE_OPEN while the store cannot be opened. */
  get(key: string): Promise<Uint8Array | undefined>;
  /**
   * Those whose key begins with `prefix`, in the order of the keys' bytes, behind the key `after` when there is one, `limit` at
   * most; what changes while it is read may or may not show. @throws GatewayError as `get`.
   */
  entries(prefix?: string, after?: string, limit?: number): AsyncIterable<readonly [key: string, value: Uint8Array]>;
  /**
   * All or nothing; resolves after the sync. Concurrent calls share syncs and are durable in the order of the calls.
   * @throws GatewayError GW_STORE_WRITE, GW_STORE_CLOSED, GW_STATE_FULL past LIMITS.state_…: then nothing of it was kept.
   */
  write(changes: readonly StateChange[]): Promise<void>;
}
