// Identities as lists show them. Opening the keys of one takes six microseconds and leaves several objects outside the heap
// behind, which is most of what a page of a thousand costs; the same page is asked for again and again. So an identity that
// has not changed is shown by the same object, beside which callers can keep what they made of it.

import type { DeviceIdentity, IdentityRef, ModuleIdentity } from '../core/hub/identity.ts';
import type { Sealer } from '../platform/sealing.ts';
import {
  deviceView,
  identitySeal,
  moduleView,
  NO_KEYS,
  presenceFields,
  refOf,
  type DeviceRecord,
  type IdentityRecord,
  type IdentitySeal,
  type ModuleRecord,
  type Presence,
} from './identity-record.ts';

export interface IdentityListOptions {
  readonly presence: (hubId: string, ref: IdentityRef) => Presence;
  /** The sealed keys of an identity cannot be opened: the list shows it without. Must not throw. */
  readonly onUnreadable: (hubId: string, ref: IdentityRef, error: unknown) => void;
  readonly sealer: Sealer;
}

/** Both remember by the record: it is to be the same object while it has not changed (hub-store.ts). */
export interface IdentityList {
  device(hubId: string, record: DeviceRecord): DeviceIdentity;
  module(hubId: string, record: ModuleRecord): ModuleIdentity;
}

export function createIdentityList({ presence, onUnreadable, sealer }: IdentityListOptions): IdentityList {
  function shownBy<Record extends IdentityRecord, View extends ReturnType<typeof presenceFields>>(
    make: (record: Record, now: Presence, seal: IdentitySeal) => View,
  ): (hubId: string, record: Record) => View {
    const shown = new WeakMap<Record, { readonly now: Presence; readonly view: View }>();
    return (hubId, record) => {
      const ref = refOf(record);
      const now = presence(hubId, ref);
      const known = shown.get(record);
      if (known !== undefined && isSame(known.now, now)) return known.view;
      let isReadable = true;
      const strict = identitySeal(sealer, hubId, ref);
      const lenient: IdentitySeal = {
        seal: (secret) => strict.seal(secret),
        unseal(sealed) {
          try {
            return strict.unseal(sealed);
          } catch (error) {
            isReadable = false;
            onUnreadable(hubId, ref, error);
            return JSON.stringify(NO_KEYS);
          }
        },
      };
      const view = known === undefined ? make(record, now, lenient) : { ...known.view, ...presenceFields(record, now) };
      // One that cannot be read is tried and told of each time.
      if (isReadable) shown.set(record, { now, view });
      return view;
    };
  }

  return { device: shownBy(deviceView), module: shownBy(moduleView) };
}

function isSame(one: Presence, other: Presence): boolean {
  return (
    one.isConnected === other.isConnected &&
    one.connectionChangedMs === other.connectionChangedMs &&
    one.activityMs === other.activityMs
  );
}
