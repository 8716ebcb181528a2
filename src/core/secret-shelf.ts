// Contract of where a part keeps secrets that it was given by others while it runs: keys that a hub made.

export interface SecretShelf {
  /** Undefined: there is none of that name. @throws GatewayError GW_SEALED, and as `StateSpace.get`. */
  get(name: string): Promise<string | undefined>;
  /** Sealed; resolves after the sync. @throws GatewayError GW_SEALED, and as `StateSpace.write`. */
  put(name: string, secret: string): Promise<void>;
}
