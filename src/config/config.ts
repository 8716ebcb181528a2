// The configuration as the gateway uses it: checked, complete, secrets in place.

import type { DeviceId } from '../core/device.ts';
import type { QueueName, OutboxSettings } from '../core/outbox.ts';
import type { MessageShape } from '../core/shape.ts';
import type { LocatedFault } from './fault.ts';
import type { HubConfig } from './hub-schema.ts';
import type { SealConfig } from './seal-schema.ts';
import type { SecretSet } from './secrets.ts';
import type { ProfileTexts } from './profiles.ts';

/** Of an adapter or endpoint. */
interface PartConfig {
  /** Why it cannot run, as `file:line: path: message`: a secret of it cannot be read. `settings` is empty then. */
  readonly fault?: string;
}

export interface AdapterConfig extends PartConfig {
  /** The name under `adapters:`. */
  readonly id: string;
  readonly type: string;
  readonly enabled: boolean;
  /** All its devices are simulated, but those that replay a capture. */
  readonly simulate: boolean;
  /** What the module's schema gave; handed to the module's `create`. */
  readonly settings: Readonly<Record<string, unknown>>;
}

export interface EndpointConfig extends PartConfig {
  /** `$upstream`, or the name under `endpoints:`. */
  readonly name: QueueName;
  readonly type: string;
  readonly enabled: boolean;
  readonly order: 'live_first' | 'strict';
  readonly maxBytes?: number;
  readonly seal?: SealConfig;
  /** Of the history. */
  readonly maxBytesPerSec?: number;
  readonly monthlyBudget?: { readonly monthlyBytes: number; readonly resetDay: number };
  /** A condition: what goes although the budget is spent, and past the rate of the history. */
  readonly urgent?: string;
  /** What the module's schema gave; handed to the module's `create`. */
  readonly settings: Readonly<Record<string, unknown>>;
}

/** Fits `RouteDefinition` of the pipeline. */
export interface RouteConfig {
  readonly name: string;
  readonly source: 'DeviceMessages';
  readonly condition: string;
  readonly endpoint: QueueName;
  readonly enabled: boolean;
}

export interface WebConfig {
  readonly enabled: boolean;
  readonly port: number;
  readonly address: string;
}

export interface GatewayConfig {
  readonly version: 1;
  readonly gatewayId: DeviceId;
  readonly adapters: readonly AdapterConfig[];
  readonly upstream?: EndpointConfig;
  /** Without upstream. */
  readonly endpoints: readonly EndpointConfig[];
  readonly routes: readonly RouteConfig[];
  /** How polled values become messages, where device and adapter do not say. */
  readonly messages: MessageShape;
  readonly outbox: OutboxSettings;
  /** Absent: off. */
  readonly hub?: HubConfig;
  readonly web: WebConfig;
}

/** A configuration that has no faults, with what is needed to show and to compare it. */
export interface LoadedConfig {
  readonly config: GatewayConfig;
  /** The text of the file: references, not secrets. */
  readonly text: string;
  /** The same at the version of this release, when the file is of an older one. */
  readonly migrated?: { readonly from: number; readonly text: string };
  /** Texts of the profiles that it took from the user's own folder, by name. */
  readonly ownProfiles: ProfileTexts;
  /** Sentences about what is allowed but not wise, as `file:line: path: message`. */
  readonly warnings: readonly string[];
  /** Faults of the parts that cannot run, because their secrets cannot be read; see `LoadOptions.keepsUnresolved`. */
  readonly partFaults: readonly LocatedFault[];
  readonly secrets: SecretSet;
  /** All fields by the file's names, defaults included, secrets in place; for comparing, never for showing. */
  readonly values: Readonly<Record<string, unknown>>;
}
