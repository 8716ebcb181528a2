// On which connection the messages of each identity travel: as many as may share one by their tokens, then another. What a
// certificate proves has a connection of its own (contract/device-auth.md, section 5).

import type { DeviceId } from '#sdk';
import type { HubIdentity } from './identity.ts';

/** The gateway's own connection. */
export const OWN_CONNECTION = 'gateway';

export interface ConnectionPlaces {
  /** The name of a carrier's connection; the same for as long as this lives. */
  placeOf(carrierId: DeviceId): string;
  /** Who has to be let in for the connection of that name to count: whom its certificate proves; undefined: nobody. */
  loginOf(place: string): HubIdentity | undefined;
}

export interface ConnectionPlacesOptions {
  readonly gatewayId: DeviceId;
  readonly identityOf: (carrierId: DeviceId) => HubIdentity;
  /** Identities that may share one. */
  readonly max: number;
}

export function connectionPlaces({ gatewayId, identityOf, max }: ConnectionPlacesOptions): ConnectionPlaces {
  const places = new Map<DeviceId, string>([[gatewayId, OWN_CONNECTION]]);
  const logins = new Map<string, HubIdentity>();
  // The gateway is one of those on its own connection, which a certificate of its own leaves to it alone.
  let shared = identityOf(gatewayId).sharedAccessKey === undefined ? max : 1;

  function findPlace(carrierId: DeviceId): string {
    const identity = identityOf(carrierId);
    if (identity.sharedAccessKey === undefined) {
      const place = `device ${carrierId}`;
      logins.set(place, identity);
      return place;
    }
    const number = Math.floor(shared / max);
    shared += 1;
    return number === 0 ? OWN_CONNECTION : `devices ${number}`;
  }

  return {
    placeOf(carrierId) {
      const known = places.get(carrierId);
      if (known !== undefined) return known;
      const place = findPlace(carrierId);
      places.set(carrierId, place);
      return place;
    },
    loginOf: (place) => logins.get(place),
  };
}
