// The import rules of the design, section 3: imports run one way. test/architecture.test.ts runs these and asserts that
// a minimum of files was examined, because a cruise over no files succeeds too.

/** Layers from the top; a layer may import itself and what stands below it. Folders in one row never import each other, but for the exceptions. */
const ROWS = [
  ['src/main.ts', 'src/cli'],
  ['src/gateway'],
  ['src/admin/'],
  ['src/hub/', 'src/upstream/'],
  ['src/devices/'],
  ['src/pipeline/'],
  ['src/store/'],
  ['src/config/', 'src/observe/', 'src/platform/', 'src/wire/', 'src/iothub/'],
  ['src/core/'],
];
const EXCEPTIONS = {
  // Everything above may use the operating system behind platform, and config may tell what it did.
  'src/config/': ['src/observe/', 'src/platform/'],
  'src/observe/': ['src/platform/'],
  'src/wire/': ['src/platform/'],
};

const escape = (text) => text.replace(/[.]/g, '\\.');
const forbidden = [];
ROWS.forEach((row, index) => {
  for (const folder of row) {
    const above = ROWS.slice(0, index).flat();
    const beside = row.filter((other) => other !== folder && !(EXCEPTIONS[folder] ?? []).includes(other));
    if (row[0] === 'src/main.ts') beside.length = 0;
    const to = [...above, ...beside];
    if (to.length === 0) continue;
    forbidden.push({
      name: `${folder}-imports-down-only`,
      severity: 'error',
      from: { path: `^${escape(folder)}` },
      to: { path: to.map((path) => `^${escape(path)}`).join('|') },
    });
  }
});

module.exports = {
  forbidden: [
    ...forbidden,
    { name: 'no-circular', severity: 'error', from: {}, to: { circular: true } },
    {
      name: 'core-is-pure',
      comment:
        'core has types and rules only: no node modules; zod for module definitions and shared fields, jsep, which only parses.',
      severity: 'error',
      from: { path: '^src/core/' },
      to: { pathNot: '^src/core/|node_modules/(zod|jsep)/' },
    },
    {
      name: 'only-main-imports-modules',
      severity: 'error',
      from: { path: '^src/', pathNot: '^src/main\\.ts$' },
      to: { path: '^modules/' },
    },
    {
      name: 'module-imports-sdk-only',
      comment: 'A module imports #sdk, npm packages and its own folder; never another module, never src by path.',
      severity: 'error',
      from: { path: '^modules/([^/]+)/' },
      to: { path: '^(src|modules)/', pathNot: '^src/sdk/index\\.ts$|^modules/$1/' },
    },
    {
      name: 'web-client-imports-contract-only',
      severity: 'error',
      from: { path: '^modules/web/client/' },
      to: { path: '^(src|modules)/', pathNot: '^modules/web/(client/|contract\\.ts$)' },
    },
    {
      name: 'sdk-reexports-only-what-modules-may-see',
      severity: 'error',
      from: { path: '^src/sdk/' },
      to: { path: '^src/', pathNot: '^src/(sdk|core|platform|wire|iothub|observe)/' },
    },
    {
      name: 'leveldb-only-behind-platform',
      severity: 'error',
      from: { pathNot: '^src/platform/level\\.ts$|^test/' },
      to: { path: 'node_modules/(classic-level|level|abstract-level)/' },
    },
    { name: 'nothing-imports-tests', severity: 'error', from: { pathNot: '^test/' }, to: { path: '^test/' } },
    {
      name: 'no-unresolved',
      severity: 'error',
      from: {},
      to: { couldNotResolve: true },
    },
    {
      name: 'no-development-package-in-product',
      severity: 'error',
      from: { path: '^(src|modules)/' },
      to: { dependencyTypes: ['npm-dev'], pathNot: 'node_modules/@types/' },
    },
  ],
  options: {
    doNotFollow: { path: 'node_modules' },
    exclude: { path: '^(dist|test/\\.work)/' },
    tsPreCompilationDeps: true,
    tsConfig: { fileName: 'tsconfig.json' },
    enhancedResolveOptions: {
      exportsFields: ['exports'],
      conditionNames: ['import', 'require', 'node', 'default', 'types'],
      extensions: ['.ts', '.tsx', '.js', '.mjs', '.cjs', '.json'],
    },
  },
};
