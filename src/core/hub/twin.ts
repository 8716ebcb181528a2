// Twins (contract/device-semantics.md, section 3; contract/service-04-twins-query.md).

import type { IdentityRef, IfMatch } from './identity.ts';

/** JSON of the service's view of a twin, complete (contract/service-04, section 2). */
export type TwinDocument = Readonly<Record<string, unknown>>;

export interface TwinUpdate {
  readonly tags?: unknown;
  readonly desired?: unknown;
}

export interface Twins {
  /** The device's own view: `{"desired":{…,"$version":n},"reported":{…,"$version":n}}` as JSON. */
  own(hubId: string, ref: IdentityRef): Promise<Uint8Array>;
  /**
   * A device's patch of its reported properties, as JSON. Resolves after the sync with the new version.
   * @throws GW_IOTHUB: IotHubFormatError, ArgumentInvalid (limits), PreconditionFailed (`baseVersion`), DeviceNotFound.
   */
  report(hubId: string, ref: IdentityRef, patch: Uint8Array, baseVersion?: number): Promise<number>;
  get(hubId: string, ref: IdentityRef): Promise<TwinDocument>;
  /** Merges; `null` deletes. Notifies the device of changed desired properties after the sync. */
  patch(hubId: string, ref: IdentityRef, update: TwinUpdate, ifMatch: IfMatch): Promise<TwinDocument>;
  /** Replaces the sections. */
  replace(hubId: string, ref: IdentityRef, update: TwinUpdate, ifMatch: IfMatch): Promise<TwinDocument>;
}
