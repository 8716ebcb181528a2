// What the links of one device or module share.

import type { AmqpDelivery, Clock, Hub, IdentityRef, Principal, SessionId } from '#sdk';
import type { InFlightBytes } from './credit.ts';

/** A message that asks for a fault; returns whether there is nothing more to do with it. */
export type TelemetryFault = (properties: Readonly<Record<string, string>>, delivery: AmqpDelivery) => boolean;

/** What is known of a device's session when its links come. */
export interface DeviceContext {
  readonly hub: Hub;
  readonly hubId: string;
  readonly ref: IdentityRef;
  readonly sessionId: SessionId;
  readonly principal: () => Principal;
  readonly modelId: string | undefined;
  readonly clock: Clock;
  readonly inFlight: InFlightBytes;
  /** Undefined when faults are not to be injected. */
  readonly onFault: TelemetryFault | undefined;
}
