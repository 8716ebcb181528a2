// Words of the configuration that a later version will take.

/** The error of an enumeration, which tells one who asks for what is not there yet that it is no slip of the pen. */
export function notYet(
  what: string,
  later: readonly string[],
  now: readonly string[],
): (issue: { readonly input?: unknown }) => string {
  return ({ input }) => {
    const allowed = now.map((name) => `\`${name}\``).join(' or ');
    if (input === undefined) return `is missing: ${allowed}`;
    const name = later.find((one) => one === input);
    return name === undefined ? `must be ${allowed}` : `${what} \`${name}\` is not in this version; use ${allowed}`;
  };
}
