// Methods of the gateway itself, as a back end calls them by the gateway's own device.

import type { CommandStatus } from './command.ts';

export interface GatewayMethodAnswer {
  readonly status: CommandStatus;
  /** Becomes JSON. */
  readonly body: Readonly<Record<string, unknown>>;
}

export interface GatewayMethods {
  readonly names: readonly string[];
  /** @param payload JSON; undefined where there was none. Never rejects. */
  call(name: string, payload: unknown, actor: string): Promise<GatewayMethodAnswer>;
}
