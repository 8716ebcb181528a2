// What the protocol heads, the command line and the UI may ask of the hubs of this gateway. Behaviour is in `src/hub`, conventions
// in `src/iothub`; a head translates its protocol to these calls and back. All arguments and results are plain data, so that a
// head can live in a worker.

import type { Access } from './access.ts';
import type { IdentityRegistry } from './identity.ts';
import type { Commands, Events, Methods, TelemetryIntake } from './messaging.ts';
import type { Sessions } from './session.ts';
import type { Twins } from './twin.ts';

/** One hub as it is configured. */
export interface HubInfo {
  readonly hubId: string;
  /** Clients put it into connection strings, tokens and user names. */
  readonly hostName: string;
  /** Further names by which it is reached (`GatewayHostName`), the addresses it listens on among them. */
  readonly alternateNames: readonly string[];
  /** The Event Hubs-compatible name. */
  readonly eventHubName: string;
  readonly consumerGroups: readonly string[];
  readonly faultInjection: boolean;
}

export interface Hub {
  /** The hub that goes by a name; the only one when there is one only and the name is unknown. */
  hubOf(hostName: string): HubInfo;
  readonly hubs: readonly HubInfo[];
  readonly access: Access;
  readonly identities: IdentityRegistry;
  readonly sessions: Sessions;
  readonly twins: Twins;
  readonly telemetry: TelemetryIntake;
  readonly commands: Commands;
  readonly methods: Methods;
  readonly events: Events;
}
