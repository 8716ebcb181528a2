// Ids of devices that have names for people.

/** What an id can have (`isDeviceId`). */
const FOREIGN = /[^A-Za-z0-9\-.%_*?!(),:=@$']/g;

/** Blanks become `_`, slashes `.`, everything else that ids cannot have `_u` and four hex digits for each UTF-16 unit. */
export function idOfName(name: string): string {
  return name
    .replaceAll(/\s/g, '_')
    .replaceAll('/', '.')
    .replaceAll(FOREIGN, (unit) => `_u${unit.charCodeAt(0).toString(16).padStart(4, '0')}`);
}
