/** The parts of Element Plus that are used, with their styles; nothing else of it reaches the bundle. */
import 'element-plus/es/components/base/style/css'
import 'element-plus/es/components/checkbox/style/css'
import 'element-plus/es/components/dialog/style/css'
import 'element-plus/es/components/drawer/style/css'
import 'element-plus/es/components/input/style/css'
import 'element-plus/es/components/overlay/style/css'

export { ElCheckbox } from 'element-plus/es/components/checkbox/index.mjs'
export { ElConfigProvider } from 'element-plus/es/components/config-provider/index.mjs'
export { ElDialog } from 'element-plus/es/components/dialog/index.mjs'
export { ElDrawer } from 'element-plus/es/components/drawer/index.mjs'
export { ElInput } from 'element-plus/es/components/input/index.mjs'
