import { defineConfig } from 'vite';

// One script and one style with names that stay the same: the relay gives them names with a hash when it serves them.
export default defineConfig({
  base: '/page/',
  build: {
    outDir: '../src/net/page/built',
    emptyOutDir: true,
    target: ['chrome123', 'firefox120', 'safari17.5'],
    modulePreload: false,
    cssCodeSplit: false,
    rolldownOptions: {
      input: 'src/main.tsx',
      output: { entryFileNames: 'app.js', assetFileNames: 'app[extname]', codeSplitting: false },
    },
  },
});
